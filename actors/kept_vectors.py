"""Vectors that outlive the process which made them, by the hash of the text they are of.

Invariants: files are added whole, and are put together where they become many; what is kept of a base encoder is keyed by weights,
token limit and precision, so that it answers for no other model; a text's vector is the one of the batch it was first embedded in.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pyarrow import fs as pafs

from actors.core.fusion import Vectors
from actors.core.snapshots import open_root
from actors.interfaces import Progress
from actors.models import cache_dir

STEP = 4096
"""Texts that are embedded before their vectors are written: what an interruption can lose."""
MERGE_AT = 64
"""Files that are put together into one."""

Encode = Callable[[Sequence[str], Progress | None], Vectors]
"""(texts, progress) -> vectors [n, d]."""


class VectorFiles:
    """Vectors of texts by one encoder in a folder on any ``pyarrow.fs`` path."""

    def __init__(self, folder: str) -> None:
        """Nothing is created before the first ``add``."""
        self._fs, self._base = open_root(folder)

    def add(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by text hash."""
        content = io.BytesIO()
        np.savez(content, hashes=np.array(list(vectors)), vectors=np.stack(list(vectors.values())))
        self._fs.create_dir(self._base, recursive=True)
        name = f"{self._base}/{uuid.uuid4().hex}"
        with self._fs.open_output_stream(f"{name}.part") as stream:
            stream.write(content.getvalue())
        self._fs.move(f"{name}.part", f"{name}.npz")

    def read(self) -> dict[str, Vectors]:
        """All of them."""
        kept: dict[str, Vectors] = {}
        for name in self._names():
            try:
                with self._fs.open_input_stream(name) as stream:
                    content = np.load(io.BytesIO(stream.read()))
            except FileNotFoundError:
                # Another process put it into a larger file meanwhile: its texts are at worst embedded once more.
                continue
            kept.update(zip(content["hashes"].tolist(), content["vectors"], strict=True))
        return kept

    def merge(self) -> None:
        """Put the files into one, if they are many."""
        names = self._names()
        if len(names) < MERGE_AT:
            return
        self.add(self.read())
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._fs.delete_file(name)

    def _names(self) -> list[str]:
        infos = self._fs.get_file_info(pafs.FileSelector(self._base, allow_not_found=True))
        return sorted(info.path for info in infos if info.base_name.endswith(".npz"))


class BaseVectors:
    """What a frozen base encoder made of tools' texts, in the user's cache: training, serving and ``cohyde catalog`` share it."""

    def __init__(self, model_dir: Path, document_tokens: int, precision: str) -> None:
        """``model_dir`` holds the weights; texts are cut at ``document_tokens``."""
        digest = hashlib.sha256(f"{document_tokens} {precision}".encode())
        for weights in sorted(model_dir.rglob("*.safetensors")) or sorted(model_dir.rglob("*.bin")):
            digest.update(weights.read_bytes())
        self._files = VectorFiles(str(cache_dir() / "vectors" / digest.hexdigest()[:24]))

    def add(self, texts: Sequence[str], encode: Encode, progress: Progress | None = None) -> int:
        """Embed those of ``texts`` that are not kept yet, step by step; returns how many those were."""
        return self._add(self._files.read(), texts, encode, progress)

    def of(self, texts: Sequence[str], encode: Encode, progress: Progress | None = None) -> tuple[Vectors, int]:
        """Vectors [n, d] of ``texts``, and how many of them had to be embedded."""
        kept = self._files.read()
        embedded = self._add(kept, texts, encode, progress)
        return np.stack([kept[text_hash(text)] for text in texts]), embedded

    def _add(self, kept: dict[str, Vectors], texts: Sequence[str], encode: Encode, progress: Progress | None) -> int:
        missing = {digest: text for text in texts if (digest := text_hash(text)) not in kept}
        # Longest first, as the encoder does it: the time left shown is never too short.
        hashes = sorted(missing, key=lambda digest: -len(missing[digest]))
        for start in range(0, len(hashes), STEP):
            part = hashes[start : start + STEP]

            def told(done: int, _: int, start: int = start) -> None:
                if progress:
                    progress(start + done, len(hashes))

            made = dict(zip(part, encode([missing[digest] for digest in part], told), strict=True))
            self._files.add(made)
            kept.update(made)
        if hashes:
            self._files.merge()
        return len(hashes)


def text_hash(text: str) -> str:
    """24 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]
