"""A chat as mem0's documentation builds one, over a sealed vault: one import is another. Needs no key: the model has a script.

uv run python examples/mem0_chat.py
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import aico
from aico.compat.mem0 import Memory  # was: from mem0 import Memory


def scripted_model(prompt: str) -> str:
    """Stands for a language model: answers with the first memory that it is shown."""
    known = [line[2:] for line in prompt.splitlines() if line.startswith("- ")]
    return f"You told me: {known[0]}" if known else "Tell me more!"


def chat(memory: Memory, message: str, user_id: str) -> str:
    relevant = memory.search(message, filters={"user_id": user_id}, top_k=3)
    memories = "\n".join(f"- {entry['memory']}" for entry in relevant["results"])
    answer = scripted_model(f"Answer with these memories:\n{memories}\n\n{message}")
    talk = [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
    memory.add(talk, user_id=user_id, infer=False)
    return answer


def main() -> None:
    with Memory() as memory:
        for message in ("My sister Ana plays the cello.", "Which instrument does Ana play?"):
            print(f"{message} {chat(memory, message, user_id='mia')}")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        secret = Path(folder) / "passphrase"  # stands for the machine's keyring
        secret.write_text("only an example")
        os.environ |= {"AICO_HOME": f"{folder}/vault", "AICO_PASSPHRASE_FILE": str(secret)}
        aico.open().close()
        main()
