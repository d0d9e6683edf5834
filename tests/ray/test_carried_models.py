"""The two models that packages carry, for real: what the resolver hands on works."""

import pytest

from actors.models import resolve_encoder, resolve_rewriter

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_the_carried_rewriter_answers_through_its_chat_template() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_rewriter("SmolLM2-135M-Instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert not hasattr(model.config, "quantization_config")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "Paris" in answer
    assert output[0][-1] == tokenizer.eos_token_id


def test_the_carried_encoder_puts_a_paraphrase_next_to_its_text() -> None:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(resolve_encoder("all-MiniLM-L6-v2")), device="cpu")
    vectors = encoder.encode(["make a copy of the database", "duplicate the db", "send an e-mail"], normalize_embeddings=True)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
