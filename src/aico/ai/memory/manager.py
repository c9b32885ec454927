"""The one door to a companion's memory: record, remember, recall, assemble, forget."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from math import inf
from time import perf_counter

from aico import __version__
from aico.ai.memory.context import Context, TokenCounter, assemble, decode, encode, estimate_tokens
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.erasure import Eraser, Wish
from aico.ai.memory.hits import Hit
from aico.ai.memory.importance import HELPFUL, RATING
from aico.ai.memory.index import Filter
from aico.ai.memory.index.when import DAY_US
from aico.ai.memory.recall_log import RecallLog
from aico.ai.memory.receipts import Receipt, Receipts
from aico.ai.memory.second_look import SecondLook
from aico.ai.memory.semantic import SemanticMemoryStore
from aico.ai.memory.working import Assembled, WorkingMemoryStore, checked_state
from aico.clock import Clock, from_us, to_us
from aico.data.conversations import ConversationRepository, Message, Moment, Outcome, Recorded
from aico.data.facts import FactRepository
from aico.data.feedback import FeedbackRepository
from aico.data.libsql import LibSQLConnection
from aico.data.limits import checked_name, checked_text, checked_word
from aico.data.preferences import COMPANION, PreferenceRepository
from aico.data.row_ids import parsed_id
from aico.data.user import UserService
from aico.errors import AicoError, Forgotten, InvalidInput, NotFound

BATCH = 10_000
"""Messages committed at once by `record_many`: about half a second, so that other writers get their turn."""
KINDS = ("message", "fact")
CONTEXT_TURNS, CONTEXT_FACTS = 20, 20
CONTEXT_MEMORIES = (50, 200)
"""How many moments are looked at to fill a context, at least and at most: one for every ten tokens, the shortest there are."""


class MemoryManager:
    """What a companion keeps of the people it talks to. Any thread may use it.

    `user` is a person's short name everywhere; naming somebody new in a write creates them. Nobody ever sees what
    belongs to another user.

    >>> _ = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    >>> vault.memory.recall("mia", "when did I move?")[0].text
    'I moved to Lisbon in May.'
    >>> vault.memory.recall("tom", "when did I move?")
    []
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        users: UserService,
        conversations: ConversationRepository,
        facts: FactRepository,
        preferences: PreferenceRepository,
        feedback: FeedbackRepository,
        semantic: SemanticMemoryStore,
        working: WorkingMemoryStore,
        eraser: Eraser,
        receipts: Receipts,
        embeddings: Embeddings,
        second_look: SecondLook,
        recall_log: RecallLog,
        clock: Clock,
    ) -> None:
        self._connection, self._users = connection, users
        self._conversations, self._facts, self._preferences = conversations, facts, preferences
        self._feedback = feedback
        self._semantic, self._working, self._embeddings = semantic, working, embeddings
        self._eraser, self._receipts, self._clock = eraser, receipts, clock
        self._second_look, self._recall_log = second_look, recall_log

    def record(
        self,
        user: str,
        text: str,
        *,
        role: str = "user",
        conversation: str,
        speaker: str | None = None,
        at: datetime | None = None,
        source_id: str | None = None,
        return_forgotten: bool = False,
    ) -> str:
        """Record one message and return its id; it is durable, and the next recall finds it, when this returns.

        Recording the same (user, conversation, source_id) again changes nothing and returns the same id. Raises
        InvalidInput; Forgotten if this message was forgotten, unless `return_forgotten`; Busy or DiskFull.

        >>> said = vault.memory.record("mia", "The tram leaves at six.", conversation="trip", source_id="m1")
        >>> vault.memory.record("mia", "The tram leaves at six.", conversation="trip", source_id="m1") == said
        True
        """
        message = Message(text, role=role, conversation=conversation, speaker=speaker, at=at, source_id=source_id)

        def work() -> Recorded:
            return self._conversations.add(self._users.ensure(user), [message], return_forgotten=return_forgotten)[0]

        recorded = self._connection.write(work)
        self._working.follow()
        self._embeddings.wake()
        if recorded.outcome is Outcome.FORGOTTEN:
            raise Forgotten(
                "this message was forgotten on purpose; it was not recorded again",
                hint="ask for its return to bring it back: return_forgotten, or --return-forgotten",
            )
        return recorded.id.hex()

    def record_many(
        self,
        user: str,
        messages: Iterable[Message],
        *,
        on_progress: Callable[[int], object] | None = None,
        return_forgotten: bool = False,
    ) -> list[str]:
        """Record messages in the order given and return their ids in that order, the existing id for a repeat.

        Batches of 10,000 are committed whole or not at all. What was forgotten stays forgotten, as when a file is
        imported again, unless `return_forgotten`; its id is returned all the same. `on_progress` is called with the
        number of messages done, about every thousand. Raises InvalidInput, naming the message by its place, Busy
        or DiskFull; earlier batches are then kept, and may be given again where they have a `source_id`.

        >>> turns = [Message("Which tram?", conversation="trip"), Message("The 28.", role="assistant", conversation="trip")]
        >>> len(vault.memory.record_many("mia", turns))
        2
        """
        recorded = self.record_outcomes(user, messages, on_progress=on_progress, return_forgotten=return_forgotten)
        return [one.id.hex() for one in recorded]

    def record_outcomes(
        self,
        user: str,
        messages: Iterable[Message],
        *,
        on_progress: Callable[[int], object] | None = None,
        return_forgotten: bool = False,
    ) -> list[Recorded]:
        """Like `record_many`, and tells what became of each message: importers report it."""
        rest, recorded = iter(messages), list[Recorded]()

        def tell(number: int) -> None:
            if on_progress is not None:
                on_progress(len(recorded) + number)

        while batch := list(islice(rest, BATCH)):
            with self._telling_what_is_kept(len(recorded)):
                recorded += self._record_batch(
                    user, batch, {}, return_forgotten, before=len(recorded), on_progress=tell
                )
        self._working.follow()
        tell(0)
        return recorded

    def record_chats(
        self, user: str, messages: Sequence[Message], *, titles: Mapping[str, str], return_forgotten: bool = False
    ) -> list[Recorded]:
        """Record messages and the titles of their conversations, by name, all at once or not at all.

        Tells what became of each message. Raises InvalidInput before anything is written, Busy or DiskFull.
        """
        recorded = self._record_batch(user, messages, titles, return_forgotten)
        self._working.follow()
        return recorded

    def _record_batch(
        self,
        user: str,
        messages: Sequence[Message],
        titles: Mapping[str, str],
        return_forgotten: bool,
        *,
        before: int = 0,
        on_progress: Callable[[int], object] | None = None,
    ) -> list[Recorded]:
        with self._connection.transaction():
            user_id = self._users.ensure(user)
            recorded = self._conversations.add(
                user_id, messages, return_forgotten=return_forgotten, before=before, on_progress=on_progress
            )
            for name, title in titles.items():
                self._conversations.set_title(user_id, name, title)
        self._embeddings.wake()
        return recorded

    @contextmanager
    def _telling_what_is_kept(self, count: int) -> Iterator[None]:
        """Let what is raised say that `count` messages were committed before, unless the caller's transaction holds all."""
        try:
            yield
        except AicoError as exc:
            if count and not self._connection.in_transaction:
                problem = str(exc).removesuffix("; nothing was written").removesuffix("; nothing was recorded")
                exc.args = (f"{problem}; the first {count:,} messages are kept, none after them",)
            raise

    def remember(
        self,
        user: str,
        text: str,
        *,
        category: str | None = None,
        type: str | None = None,  # the word a caller expects
        confidence: float = 1.0,
        source: str | None = None,
        valid_from: datetime | None = None,
        supersedes: str | None = None,
    ) -> str:
        """Remember a fact and return its id. It is true from `valid_from` on, as far as that is known.

        `supersedes` names the fact it takes the place of: that one is closed, not overwritten, and `recall` with an
        earlier `as_of` still finds it. `source` says where the fact comes from; the id of a message ties the two
        together, so that they are forgotten together. `category` and `type` are words of the caller's, such as
        "health" and "preference". Raises InvalidInput, NotFound, Busy or DiskFull.

        >>> home = vault.memory.remember("mia", "Mia lives in Porto", category="home", supersedes=fact)
        >>> [hit.text for hit in vault.memory.recall("mia", "where does Mia live?", kinds=("fact",))]
        ['Mia lives in Porto']
        """

        def work() -> bytes:
            return self._facts.add(
                self._users.ensure(user),
                text,
                category=category,
                type=type,
                confidence=confidence,
                source=source,
                valid_from=valid_from,
                supersedes=supersedes,
            )

        fact_id = self._connection.write(work)
        self._embeddings.wake()
        return fact_id.hex()

    def recall(
        self,
        user: str,
        query: str,
        *,
        limit: int = 10,
        conversation: str | None = None,
        speaker: str | None = None,
        episode: str | None = None,
        kinds: Sequence[str] = KINDS,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
        score_min: float | None = None,
    ) -> list[Hit]:
        """The memories that answer `query` best, best first; an empty list means there is nothing.

        `speaker` keeps to what that name said, `episode` to the talk around the message of that id, without a pause of
        `episode_gap_s`. `since` and `until` bound when it was said (until is excluded). Facts are those believed now;
        `as_of` asks for what was said and believed at that instant instead. `score_min` leaves out what is less likely
        to be meant than that, from 0 to 1: .01 leaves nothing of most questions that nothing answers. Raises InvalidInput,
        NotFound for what is no id. A time that the query names ("yesterday") is told by `as_of`, or else by the clock, and
        lifts what is of that time.

        >>> [hit.text for hit in vault.memory.recall("mia", "Lisbon", kinds=("message",))]
        ['I moved to Lisbon in May.']
        >>> vault.memory.recall("tom", "Lisbon")
        []
        """
        user_id = self._users.find(user)
        where = self._filter(user_id, conversation, speaker, episode, kinds, since, until, as_of)
        query = checked_text(query, field="query", consequence="nothing was searched")
        _check_limit(limit)
        _check_score(score_min)
        if user_id is None:
            return []
        began, change = perf_counter(), self._recall_log.position()
        asked_at_us = self._clock.now_us() if where.as_of_us is None else where.as_of_us
        wanted = self._second_look.wanted(limit)
        hits = self._semantic.search(user_id, query, limit=wanted, where=where, asked_at_us=asked_at_us)
        hits = self._second_look.best(query, hits, limit=limit)
        self._recall_log.note(user_id, query, hits, took_s=perf_counter() - began, since=change)
        self._embeddings.wake_if_changed()
        return hits if score_min is None else [hit for hit in hits if hit.score >= score_min]

    def rate(self, user: str, id: str, *, helpful: bool) -> str:
        """Say of a memory that was recalled whether it was helpful, and return the id of the feedback event that says so.

        From the next recall on it is lifted or lowered; the last rating counts, and `feedback.delete` takes it back.
        Raises NotFound for what this user does not have, Busy or DiskFull.

        >>> _ = vault.memory.rate("mia", said, helpful=True)
        >>> "rated helpful" in vault.memory.recall("mia", "Lisbon", kinds=("message",))[0].why
        True
        """
        return self._feedback.record(user, RATING, HELPFUL, hit=id, value=1.0 if helpful else -1.0)

    def context(
        self,
        user: str,
        query: str,
        *,
        conversation: str | None = None,
        token_budget: int = 1000,
        count_tokens: TokenCounter = estimate_tokens,
    ) -> Context:
        """What a language model should know to answer `query`: last turns of the live conversation, facts that hold
        now, preferences for the companion (`companion.*`) and moments recalled, each once, within `token_budget` tokens.

        Tokens are estimated (`aico.ai.memory.context.estimate_tokens`), unless `count_tokens` tells how many of them a
        text has for the model that is to read it. Raises InvalidInput.

        >>> told = vault.memory.context("mia", "a weekend in Lisbon", conversation="move", token_budget=200)
        >>> "Mia lives in Lisbon" in told.as_text() and told.tokens <= 200
        True
        """
        if type(token_budget) is not int or token_budget < 1:
            raise InvalidInput("a token budget is a whole number from 1 on", field="token_budget")
        query = checked_text(query, field="query", consequence="nothing was searched")
        if count_tokens is not estimate_tokens:  # no key of a kept context can tell whose counter it was
            return self._assemble(user, query, conversation, token_budget, count_tokens)[0]
        user_id = self._users.find(user) or b""
        live = b"" if conversation is None else self._conversations.conversation_id(user_id, conversation)
        made: list[Context] = []

        def anew() -> Assembled | None:
            context, ttl_s = self._assemble(user, query, conversation, token_budget, count_tokens)
            made.append(context)
            if self._embeddings.problem is not None or self._second_look.is_left_alone:
                return None  # with its model it would be another
            return Assembled(encode(context), [bytes.fromhex(item.id) for item in context.items], ttl_s)

        models = self._embeddings.model or "", self._second_look.model or ""
        today = self._clock.now_us() // DAY_US  # "yesterday" is another day tomorrow
        place = (user_id, live, query, token_budget, today, *models, __version__)
        kept = self._working.context(place, anew)
        return made[0] if made or kept is None else decode(kept.value)

    def _assemble(
        self, user: str, query: str, conversation: str | None, token_budget: int, count_tokens: TokenCounter
    ) -> tuple[Context, float]:
        """A context, and for how many seconds it holds if nothing is written meanwhile."""
        recent = [] if conversation is None else self.recent(user, conversation, limit=CONTEXT_TURNS)
        now, facts = from_us(self._clock.now_us()), self.recall(user, query, limit=CONTEXT_FACTS, kinds=("fact",))
        context = assemble(
            recent=recent,
            facts=[fact for fact in facts if fact.at <= now and (fact.until is None or fact.until > now)],
            preferences=self._preferences.list(user, prefix=COMPANION),
            memories=self.recall(user, query, limit=_memories_for(token_budget), kinds=("message",)),
            token_budget=token_budget,
            count_tokens=count_tokens,
        )
        moments = [when for fact in facts for when in (fact.at, fact.until) if when is not None and when > now]
        return context, min(((when - now).total_seconds() for when in moments), default=inf)

    def recent(self, user: str, conversation: str, *, limit: int = 20) -> list[Moment]:
        """The last messages of a conversation, oldest first; an empty list if there is none. Raises InvalidInput.

        >>> [moment.text for moment in vault.memory.recent("mia", "move")]
        ['I moved to Lisbon in May.']
        """
        _check_limit(limit)
        user_id = self._users.find(user)
        return [] if user_id is None else self._working.recent(user_id, conversation, limit=limit)

    def forget(
        self,
        user: str,
        *,
        id: str | None = None,  # the word a caller expects
        conversation: str | None = None,
        about: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        everything: bool = False,
        keep_facts: bool = False,
        preview: bool = False,
        agreed: Receipt | None = None,
        traces_within: str | None = None,
    ) -> Receipt:
        """Forget for good: one memory, a conversation, all that is about something, a span of time, or everything.

        `about` means every message and fact that holds every content word of the text, in any inflected form.
        Conversation, about and time narrow each other down; id and everything stand alone. What else carries the
        content goes too (`aico.ai.memory.traces`). Facts drawn only from forgotten messages go with them, unless
        `keep_facts`: they lose their source then; a fact that a forgotten one had superseded stays superseded. Of the user,
        `everything` leaves the short name, under which what was forgotten stays forgotten.

        With `preview` nothing is removed and the receipt shows what would be. Given such a receipt as `agreed`, it removes
        exactly what that shows or raises NotAsShown. `traces_within` names the one conversation in which traces are
        removed; all else that carries the content stays. Raises InvalidInput for no selector or contradicting ones, NotFound for a user or id that is not there;
        ForgottenInPart where it is gone from the store and some view could not follow: forget the same again then.

        >>> receipt = vault.memory.forget("mia", about="Lisbon")
        >>> (len(receipt.messages), len(receipt.facts), receipt.verify())
        (1, 1, True)
        """
        user_id = self._users.find(user)
        wish = Wish(
            id=id,
            conversation=None
            if conversation is None
            else self._conversations.conversation_id(user_id or b"", conversation),
            about=None if about is None else checked_text(about, field="about", consequence="nothing was forgotten"),
            since_us=None if since is None else to_us(since, field="since"),
            until_us=None if until is None else to_us(until, field="until"),
            everything=everything,
            keep_facts=keep_facts,
            traces_within=None
            if traces_within is None
            else self._conversations.conversation_id(user_id or b"", traces_within),
        )
        wish.check()
        if user_id is None:
            raise NotFound("there is no user of this name; nothing was forgotten")
        return self._eraser.preview(user_id, wish) if preview else self._eraser.forget(user_id, wish, agreed=agreed)

    def set_state(self, user: str, session: str, state: Mapping[str, object], *, ttl_s: float | None = None) -> None:
        """Keep what a session needs to go on, such as a draft or a mood, where every process of this vault finds it.

        `state` is a JSON object of at most 64 KiB in the place of what was there. It is kept for `ttl_s` seconds, by default the
        vault's `working_ttl_s`, in the sealed hot tier alone: it may be gone before, when the tier is full or anybody
        forgets something, and it is in no export, backup or sync. What must stay is a fact, a preference or an item. Raises
        InvalidInput, DiskFull, StorageError; nothing is changed then.

        >>> vault.memory.set_state("mia", "phone", {"draft": "Dear Otto,", "mood": "calm"}, ttl_s=3600)
        >>> vault.memory.find_state("mia", "phone")
        {'draft': 'Dear Otto,', 'mood': 'calm'}
        """
        name, users = checked_name(session, field="session"), self._users
        known = users.find(user) is not None  # then there is nothing to write
        if not known:
            checked_state(state, ttl_s=ttl_s)  # nobody is made for what is not kept
        user_id = users.ensure(user) if known else self._connection.write(lambda: users.ensure(user))
        self._working.set_state(user_id, name, state, ttl_s=ttl_s)

    def find_state(self, user: str, session: str) -> dict[str, object] | None:
        """The state of this person's session as it was kept last; None if there is none, or no more. Raises StorageError.

        >>> vault.memory.find_state("mia", "a session of which nothing was kept") is None
        True
        """
        user_id = self._users.find(user)
        return None if user_id is None else self._working.find_state(user_id, checked_name(session, field="session"))

    def delete_state(self, user: str, session: str) -> bool:
        """Let go of a session's state now, as at its end; whether there was any. Raises StorageError.

        >>> vault.memory.set_state("mia", "phone", {"draft": "Dear Otto,"})
        >>> vault.memory.delete_state("mia", "phone"), vault.memory.find_state("mia", "phone")
        (True, None)
        """
        user_id = self._users.find(user)
        return user_id is not None and self._working.delete_state(user_id, checked_name(session, field="session"))

    def receipt(self, user: str, id: str) -> Receipt:
        """The receipt of an earlier `forget`, from any process, able to `verify()`. Raises NotFound.

        >>> forgotten = vault.memory.forget("mia", id=said)
        >>> vault.memory.receipt("mia", forgotten.id).verify()
        True
        """
        user_id = self._users.find(user)
        if user_id is None:
            raise NotFound("there is no user of this name")
        return self._receipts.get(user_id, id)

    def receipts(self, user: str) -> Sequence[Receipt]:
        """Every receipt that still has a forgotten memory on it, oldest first.

        >>> forgotten = vault.memory.forget("mia", id=said)
        >>> [receipt.id == forgotten.id for receipt in vault.memory.receipts("mia")]
        [True]
        """
        user_id = self._users.find(user)
        return [] if user_id is None else self._receipts.list(user_id)

    def _filter(
        self,
        user_id: bytes | None,
        conversation: str | None,
        speaker: str | None,
        episode: str | None,
        kinds: Sequence[str],
        since: datetime | None,
        until: datetime | None,
        as_of: datetime | None,
    ) -> Filter:
        if isinstance(kinds, str) or not isinstance(kinds, Iterable) or set(kinds) - set(KINDS):
            raise InvalidInput(f"kinds are {' and '.join(KINDS)}", hint='for example kinds=("fact",)', field="kinds")
        if since is not None and until is not None and to_us(since, field="since") >= to_us(until, field="until"):
            raise InvalidInput("since is not before until; nothing was searched", hint="swap the two", field="since")
        if speaker == "":
            raise InvalidInput("speaker is empty; nothing was searched", hint="leave it out for any", field="speaker")
        return Filter(
            conversation=None
            if conversation is None
            else self._conversations.conversation_id(user_id or b"", conversation),
            speaker=checked_word(speaker, field="speaker"),
            episode_of=None if episode is None else parsed_id(episode, what="message"),
            kinds=frozenset(kinds),
            since_us=None if since is None else to_us(since, field="since"),
            until_us=None if until is None else to_us(until, field="until"),
            as_of_us=None if as_of is None else to_us(as_of, field="as_of"),
        )


def _memories_for(token_budget: int) -> int:
    least, most = CONTEXT_MEMORIES
    return min(max(token_budget // 10, least), most)


def _check_limit(limit: int) -> None:
    if type(limit) is not int or limit < 1:
        raise InvalidInput("limit is a whole number from 1 on", field="limit")


def _check_score(score_min: float | None) -> None:
    if score_min is not None and not (isinstance(score_min, int | float) and 0 <= score_min <= 1):
        raise InvalidInput("score_min lies between 0 and 1", field="score_min")
