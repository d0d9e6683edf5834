"""Tiny random models with tokenizers, made on the fly: they have the shape of the real ones and know nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"


def _tokenizer(words: Sequence[str], special: Sequence[str]) -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate([*special, *sorted(set(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def make_encoder(directory: Path, words: Sequence[str]) -> Path:
    """A two-layer BERT with mean pooling, as a sentence-transformers directory."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(words, ["[UNK]", "[PAD]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64
    )
    config = BertConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    bare = directory.with_name(directory.name + "-bert")
    BertModel(config).save_pretrained(bare)
    fast.save_pretrained(bare)
    transformer = Transformer(str(bare))
    SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu").save(str(directory), create_model_card=False)
    return directory


def make_rewriter(directory: Path, words: Sequence[str]) -> Path:
    """A two-layer Llama with a chat template."""
    torch.manual_seed(0)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(words, ["<unk>", "<pad>", "<eos>"]),
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        chat_template=CHAT,
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=256,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory
