"""What other frameworks take, as a type checker sees it. Checked, never run."""

from agents.memory import Session
from langgraph.store.base import BaseStore

import aico
from aico.compat.langgraph import AicoStore
from aico.compat.openai_agents import AicoSession


def program(companion: aico.Vault) -> tuple[Session, BaseStore]:
    return AicoSession("s", companion, user="mia"), AicoStore(companion, user="mia")
