"""A reranker behind an address that the user set up."""

from collections.abc import Sequence

from aico.ai.endpoint import Endpoint
from aico.ai.reranking import Relevances
from aico.ai.reranking.answers import checked_relevances, unusable


class ServedReranker:
    """A model behind `POST …/rerank` as Cohere and Jina brought it up and llama.cpp, vLLM and others speak it.

    The address ends where `/rerank` begins, often in `/v1`. Any thread may use it. The texts leave this process.
    """

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.id = f"http/{model}"
        self._endpoint, self._model = endpoint, model

    def relevances(self, question: str, texts: Sequence[str]) -> Relevances:
        """How likely each text answers the question. Raises ModelUnavailable."""
        if not texts:
            return checked_relevances([], count=0, model=self.id)
        body = {"model": self._model, "query": question, "documents": list(texts)}
        answer = self._endpoint.post("rerank", body)
        try:  # best first, so each score says which text it belongs to
            by_text = {int(item["index"]): item["relevance_score"] for item in answer["results"]}
            scores = [by_text[position] for position in range(len(texts))]
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            raise unusable(self.id, "something else than a score for each text") from None
        return checked_relevances(scores, count=len(texts), model=self.id)
