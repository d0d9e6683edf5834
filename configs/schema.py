"""Every setting of a run, with its default, in one place.

Invariants: unknown keys are refused; a default stands here and nowhere else; imports neither torch nor ray. A name carries its
unit (``queries_per_unit``, ``stage_timeout_s``). Cross-field checks raise ``ValueError`` with the remedy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
_UNCUT = 1_000_000
"""Tokens: more than any encoder takes."""


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, docstrings under fields become their descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CatalogConfig(Section):
    """Which tools and which queries."""

    source: str = "aws"
    """``aws`` (the operations of the installed botocore), ``synced:DIR`` (a folder of ``cohyde catalog sync``) or ``beir:DIR``
    (a folder with corpus.jsonl, queries.jsonl, qrels/)."""
    services: Literal["demo", "all"] | list[str] = "all"
    """AWS only: the demo's subset, all, or service names as botocore spells them ("demo" may be among them)."""
    stream_share: Share = 0.0
    """Labelled training needs set aside for a simulated query log, by hash: no run trains on them."""
    stream_services: list[str] = []
    """AWS only: services all of whose training needs are set aside."""
    unseen_providers: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the providers (namespaces) none of whose tools any training query has, by hash: for measuring on new ones."""
    max_train_queries: Count | None = None
    """Labelled training queries there are at all (all if null); chosen by hash, tiers kept in proportion."""
    max_test_queries_per_tier: Count | None = None
    """Test queries of each tier (all if null); chosen by hash, seen and unseen kept in proportion. Dev likewise."""


class EncoderConfig(Section):
    """The dense encoder and how it is trained (InfoNCE)."""

    model: str = "all-MiniLM-L6-v2"
    """A directory, a hub id, or a name that an installed package carries."""
    query_tokens: Positive = 64
    """Queries and rewrites are cut here."""
    document_tokens: Positive = 128
    """Tool documents are cut here."""
    sides: Literal["both", "queries"] = "both"
    """``queries``: tools keep the base model's vectors, queries and rewrites learn to meet them. A step costs a fourth, every tool
    is a negative in each, and no version embeds the catalog anew."""
    frozen: bool = False
    """The encoder is never trained, the rewriter alone learns: QTA (2410.03212), for catalogs with very few labelled queries."""
    warm_start_steps: Count = 100
    """Optimizer steps before the first round, on catalog pairs and labelled queries."""
    warm_start_share: Share = 0.5
    """Labelled needs that the warm start trains on; the others go through the rounds, and the rewriter learns from those alone."""
    steps_per_unit: Positive = 100
    """Optimizer steps in each unit."""
    averaging: Share = 0.0
    """Share of the published weights that stays when a unit's are averaged in; 0 publishes what was trained last."""
    pairs_per_step: Positive = 64
    """(anchor, tool) pairs in one InfoNCE batch; a unit adds ``rewrite_share`` of rewrites."""
    pairs_per_chunk: Positive | None = None
    """Pairs embedded at once inside a step, by gradient caching, which bounds memory for a third more time; null is all at once."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate (AdamW) of the warm start and of each unit."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """InfoNCE temperature; the loss's scale is its inverse."""
    mined_negatives: Count = 1
    """Hard negatives a pair, from the newest index."""
    negative_margin: Share = 0.05
    """A mined negative scored within this share of its positive is dropped (2407.15831)."""
    anchor_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the pull towards the frozen base model's embeddings."""
    rehearsal_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the pull that holds requests of any kind at the base model's vectors, against forgetting other catalogs."""
    rewrite_share: Share = 0.25
    """Rewrites in a unit's batch, on top of its pairs, as a share of them (CoHyDE only); less where each would be drawn twice."""
    catalog_share: Share = 0.15
    """Share of a unit's pairs that come from the catalog's own sentences, against forgetting."""
    index: Literal["exact", "hnsw"] = "exact"
    """FAISS index; exact is the reference."""

    def uncut(self) -> EncoderConfig:
        """The same with texts as long as the model takes them."""
        return self.model_copy(update={"query_tokens": _UNCUT, "document_tokens": _UNCUT})


class RewriterConfig(Section):
    """The LLM that writes hypothetical catalog entries, its engine, and how it is trained (SFT, DPO)."""

    model: str = "SmolLM2-135M-Instruct"
    """A directory, a hub id, or a name that an installed package carries."""
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    """``auto`` is vLLM where it is installed, else transformers (the run says so)."""
    samples_per_query: Positive = 4
    """K: rewrites sampled for each training query."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Sampling temperature of training rewrites; evaluation is greedy for the first and samples the others."""
    eval_samples: Positive = 1
    """Rewrites a query at evaluation and in serving; their vectors are averaged."""
    prompt_tokens: Positive = 160
    """Prompts are cut here (the query's end is cut, never the frame)."""
    max_new_tokens: Positive = 32
    """A rewrite's length limit."""
    context_tools: Count = 5
    """Titles of the first retrieved tools that the prompt carries."""
    lora_rank: Positive = 16
    """Rank of the adapters (all linear layers)."""
    sft_steps: Count = 100
    """Warm start: optimizer steps from query to the gold tool's entry."""
    sft_rows_per_step: Positive = 16
    """Rows in one SFT step."""
    sft_learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate of the warm start (full weights)."""
    dpo_steps_per_unit: Positive = 20
    """Optimizer steps in each unit (fewer where the unit has fewer pairs)."""
    pairs_per_step: Positive = 8
    """Preference pairs in one DPO step."""
    dpo_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Learning rate of DPO (LoRA)."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """DPO's beta."""
    sft_weight: Annotated[float, Field(ge=0)] = 0.2
    """Weight of the SFT term on the chosen text."""
    min_reward_gap: Annotated[float, Field(ge=0)] = 0.05
    """A pair needs at least this gap between chosen and rejected."""
    rerank_rows: Count = 0
    """Rows from entry to query that a second copy of the model trains on, to rerank by a query's likelihood; 0: no such copy."""
    max_pairs_per_query: Positive = 1
    """Preference pairs a query gives at most."""


class RetrievalConfig(Section):
    """How a ranking is made from query, rewrites and lexical match; and the reward read off it."""

    reward_k: Positive = 5
    """The reward is NDCG at this depth."""
    reward_mode: Literal["rewrite", "fused"] = "fused"
    """The ranking that the reward is read off."""
    margin_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of (gold score - best wrong score) in the reward; breaks ties."""
    penalty: Annotated[float, Field(ge=0)] = 0.5
    """Taken off the reward of an empty, copied or over-long rewrite."""
    fusion_weight: Share = 0.3
    """Weight of the rewrite vector in ``fused`` until one is fitted on dev."""
    rerank_depth: Annotated[int, Field(ge=2, le=100)] = 16
    """First tools of a query that the reranker reads."""


class StreamConfig(Section):
    """Continual mode: where the query log is, and how it becomes units (docs/query-log.md)."""

    source: Literal["jsonl", "kafka", "redis"] = "jsonl"
    """What kind of log."""
    address: str = "query-log"
    """A directory of JSON lines; ``host:port,...`` of Kafka brokers; a Redis URL."""
    topic: str = "query-log"
    """Kafka's topic, or the key of Redis' stream."""
    group: str = "cohyde"
    """Consumer group (Kafka, Redis)."""
    join_window_s: Positive = 600
    """How long a search stays open for outcomes, by event time."""
    labelled_share: Share = 0.25
    """Labelled queries of the catalog in a unit."""
    reservoir_share: Share = 0.25
    """Examples of earlier units in a unit; what is left of it are new ones."""
    tenant_share: Share = 0.25
    """New examples of a unit, and of those that wait, that one tenant gives at most; an equal part where there are few tenants."""
    per_query_tool: Positive = 5
    """How often one query with one tool counts, ever."""
    weight_clip: Annotated[float, Field(ge=1)] = 5.0
    """Most that an example weighs, in examples (inverse propensity is clipped here)."""
    least_new: Positive = 16
    """New examples that a unit needs when patience ends or drift hurries it."""
    patience_s: Positive = 3_600
    """After this long a unit is cut of fewer new examples than it has room for."""
    feedback_weight: Annotated[float, Field(ge=0)] = 1.0
    """How much of the mean query that users found a tool by is added to the tool's vector where a run serves; 0 adds none."""
    drift_p_value: Share = 0.01
    """A unit is cut at once where a test for drift falls below this; 0 never hurries."""

    @model_validator(mode="after")
    def _shares_fit(self) -> StreamConfig:
        if self.labelled_share + self.reservoir_share >= 1:
            raise ValueError("stream.labelled_share + stream.reservoir_share leave no room for new examples; lower one of them")
        return self


class GateConfig(Section):
    """Continual mode: when a candidate release takes over."""

    tolerance: Share = 0.01
    """Most that a slice, or all together, may fall (nDCG@5); a fall that a paired test finds to be more than this refuses."""


class LoopConfig(Section):
    """The co-training loop. Synchronous rounds are lags of zero, not another loop."""

    start_from: str | None = None
    """``RUN_DIR[@version]`` whose release is version 0, on this run's catalog, in place of a warm start."""
    mode: Literal["rounds", "continual"] = "rounds"
    """``rounds``: a unit holds every training query and both lags are 0; ``continual``: small units, and lags."""
    units: Positive | None = 3
    """Units to run (rounds in rounds mode); null (continual only) is until the job is ended."""
    queries_per_unit: Positive | None = None
    """Labelled training queries in a unit at most, cut from shuffled epochs; null (rounds only) is all of them."""
    max_rewriter_lag: Count = 0
    """``generate(u)`` may start once rewriter ``u - max_rewriter_lag`` is published."""
    max_retriever_lag: Count = 0
    """``score(u)`` may start once retriever ``u + 1 - max_retriever_lag`` is published."""
    stage_timeout_s: Positive = 7200
    """Deadline of one stage of one unit."""
    stall_timeout_s: Positive = 900
    """The run ends when no stage made progress for this long."""
    max_failures: Count = 3
    """Restarts that a learner is given."""
    baselines: list[Literal["encoder_alone", "qta"]] = ["encoder_alone", "qta"]
    """Trained arms to run beside CoHyDE for the comparison (rounds mode)."""

    @property
    def rounds(self) -> int:
        """``units`` of a run that has an end. Raises ``ValueError`` where it has none."""
        if self.units is None:
            raise ValueError("loop.units is null: this run has no last unit")
        return self.units

    @model_validator(mode="after")
    def _mode_fits(self) -> LoopConfig:
        if self.mode == "rounds" and self.units is None:
            raise ValueError("loop.mode=rounds needs loop.units; null is for loop.mode=continual")
        if self.mode == "rounds" and (self.max_rewriter_lag or self.max_retriever_lag):
            raise ValueError(
                "loop.mode=rounds needs loop.max_rewriter_lag=0 and loop.max_retriever_lag=0; set loop.mode=continual for lags"
            )
        if self.mode == "continual" and self.queries_per_unit is None:
            raise ValueError("loop.mode=continual needs loop.queries_per_unit: its units are cut from a log that has no end")
        return self


class Placement(Section):
    """What one actor is given. ``cpus`` is Ray's logical number; ``threads`` is what its libraries use."""

    cpus: Annotated[float, Field(ge=0)] = 1.0
    """Logical CPUs (a scheduler's number)."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs."""
    threads: Positive = 2
    """OpenMP / torch threads."""
    memory_gb: Annotated[float, Field(gt=0)] = 2.0
    """Expected peak resident memory; summed in preflight."""


class PlacementConfig(Section):
    """The placement plan: summed and compared with the cluster before any actor starts."""

    rewriter: Placement = Placement(memory_gb=2.5)
    """The vLLM actor."""
    encoder_trainer: Placement = Placement(memory_gb=2.5)
    """The encoder's Ray Train worker."""
    rewriter_trainer: Placement = Placement(memory_gb=3.5)
    """The rewriter's Ray Train worker."""
    index_builder: Placement = Placement(cpus=0.5, memory_gb=1.5)
    """Embeds the catalog and builds the index."""
    scorer: Placement = Placement(cpus=0.5, memory_gb=1.5)
    """Scores rewrites with a retriever."""
    embedded_cpus: Positive = 8
    """Logical CPUs of the cluster that a run starts for itself (more than cores, so hidden one-CPU tasks never hang)."""
    object_store_mb: Positive = 400
    """Object store of the cluster that a run starts for itself."""


class Config(Section):
    """A whole run."""

    run_dir: str = "runs/rounds"
    """Where everything of the run goes; the same directory again resumes the run."""
    storage_path: str | None = None
    """Where snapshots and datasets go if not under run_dir: any pyarrow.fs path that every node reaches."""
    seed: int = 17
    """Seed of data order, sampling and initialisation."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training, embedding and generation; ``auto`` takes bfloat16 where the processor multiplies it natively."""
    catalog: CatalogConfig = CatalogConfig()
    encoder: EncoderConfig = EncoderConfig()
    rewriter: RewriterConfig = RewriterConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    loop: LoopConfig = LoopConfig()
    stream: StreamConfig = StreamConfig()
    gate: GateConfig = GateConfig()
    placement: PlacementConfig = PlacementConfig()

    @model_validator(mode="after")
    def _fields_fit(self) -> Config:
        if self.rewriter.samples_per_query < 2:
            raise ValueError("rewriter.samples_per_query must be at least 2: a preference pair needs a best and a worst")
        if self.encoder.pairs_per_chunk and self.encoder.pairs_per_chunk > self.encoder.pairs_per_step:
            raise ValueError("encoder.pairs_per_chunk exceeds encoder.pairs_per_step; lower it")
        fixed = (self.encoder.mined_negatives, self.encoder.anchor_weight, self.encoder.pairs_per_chunk)
        if self.encoder.sides == "queries" and fixed != (0, 0, None):
            raise ValueError(
                "encoder.sides=queries needs encoder.mined_negatives=0, encoder.anchor_weight=0 and encoder.pairs_per_chunk=null:"
                " every tool is a negative already, and none moves"
            )
        if self.loop.mode == "continual" and self.rewriter.rerank_rows:
            raise ValueError("loop.mode=continual needs rewriter.rerank_rows=0: it takes over the reranker of loop.start_from")
        if self.encoder.frozen and (self.loop.mode, self.loop.baselines, self.encoder.warm_start_share) != ("rounds", [], 0):
            raise ValueError("encoder.frozen=true needs loop.mode=rounds, loop.baselines=[] and encoder.warm_start_share=0")
        return self
