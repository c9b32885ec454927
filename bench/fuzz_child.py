"""`python -m bench.fuzz_child DECODER COUNT SEED FOLDER`: one decoder under atheris, until so many inputs were tried.

Writes `told.json` into the folder, at the end and every ten thousand inputs.
"""

import json
import os
import resource
import sys
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aico"]):
    from bench.decoders import DECODERS
from bench.fuzz import MEMORY_MB, SLOW_S

TELL_EVERY = 10_000
LONGEST_BYTES = 8192


def main(name: str, count: int, seed: int, folder: Path) -> None:
    """Does not return: the process ends with the last input."""
    decoder = DECODERS[name]
    (folder / "work").mkdir()
    seeds, decode = decoder.make(folder / "work")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)
    outcomes: Counter[str] = Counter()
    escaped: dict[str, str] = {}

    def tell() -> None:
        fate = {"inputs": sum(outcomes.values()), **{key: outcomes[key] for key in ("answered", "refused")}}
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told = {**fate, "escaped_count": outcomes["escaped"], "escaped": escaped, "peak_mb": round(peak_mb)}
        (folder / "told.json").write_text(json.dumps(told))

    def one(raw: bytes) -> None:
        try:
            decode(raw)
            outcomes["answered"] += 1
        except decoder.refuses:
            outcomes["refused"] += 1
        except Exception as exc:  # noqa: BLE001  # what escapes is counted
            outcomes["escaped"] += 1
            if len(escaped) < 20:
                escaped.setdefault(f"{type(exc).__name__}: {exc}"[:200], raw.hex()[:2000])
        tried = sum(outcomes.values())
        if tried % TELL_EVERY == 0 or tried >= count:
            tell()
        if tried >= count:
            os._exit(0)

    limits = [f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOW_S}", f"-seed={seed}", f"-max_len={LONGEST_BYTES}"]
    options = [*limits, f"-artifact_prefix={folder}/", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
