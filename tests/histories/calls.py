"""Random calls. `call_of(model, dice)` draws one, changes the model as the call has to change the vault, and returns it.

The same dice draw the same call again: whoever knows them knows what a process that was killed had done, and was doing.
"""

import os
import random
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import aico
from aico.data.facts import Proposed
from aico.errors import AccessDenied, InvalidInput
from aico.testing import FixedClock
from tests.histories.model import CHATS, PEOPLE, START, WORDS, Kept, Lock, Model, Person

KEYS, SOURCES, PINS = ("tone", "size"), ("s1", "s2", "s3"), ("730519", "281647")
PLACE = ("app", "notes")

Call = Callable[[aico.Vault], object]


def call_of(model: Model, dice: random.Random) -> Call:
    """The next call; the model is as it will be."""
    while True:
        name, action = dice.choice(PEOPLE), dice.choice(ACTIONS)
        person = model.people[name]
        if not person.exists and action not in CREATE:
            continue
        if not person.active and action not in (activate, erase, refused):
            continue
        before = deepcopy(model)
        before.between.clear()
        model.between, model.calls, model.now = [], model.calls + 1, model.now + 1
        made = action(model, name, person, dice)
        if made is None:
            model.__dict__.update(before.__dict__)
            continue
        return lambda vault, now=model.now, made=made: (_set_clock(vault, now), made(vault))[1]


def _set_clock(vault: aico.Vault, now: int) -> None:
    clock = vault.settings.clock
    assert isinstance(clock, FixedClock)
    clock.move(START + timedelta(seconds=now) - datetime.fromtimestamp(clock.now_us() / 1e6, UTC))


def _raises(error: type[Exception], call: Callable[..., object], *given: Any, **named: Any) -> None:
    try:
        call(*given, **named)
    except error:
        return
    raise AssertionError(f"{call} did not raise {error.__name__}")


def _said(vault: aico.Vault, name: str, text: str) -> str:
    """The id of the message with this text."""
    [found] = [one.id for one in vault.album.messages(name, limit=500) if one.text == text]
    return found


def _fact(vault: aico.Vault, name: str, text: str, status: str = "accepted") -> str:
    [found] = [one.id for one in vault.facts.list(name, status=status, limit=500) if one.text == text]
    return found


def _user(vault: aico.Vault, name: str) -> str:
    found = vault.users.find_by_name(name)
    assert found is not None
    return found.id


def _picked(among: Any, dice: random.Random) -> Any:
    """One of them, None if there is none."""
    found = sorted(among)
    return dice.choice(found) if found else None


def _text(model: Model, dice: random.Random) -> str:
    return f"{' '.join(dice.sample(WORDS, dice.randrange(1, 4)))} {model.calls}"


# Messages


def record(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    text, chat = _text(model, dice), dice.choice(CHATS)
    person.exists = True
    person.messages[model.calls] = Kept(text, person.begin(chat))
    return lambda vault: vault.memory.record(name, text, conversation=chat)


def bring(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    """An import of chats into a vault that has some of them, or had."""
    chat, sources = dice.choice(CHATS), dice.sample(SOURCES, dice.randrange(1, 4))
    person.exists = True
    texts = {source: f"{dice.choice(WORDS)} of {chat} {source} {model.calls}" for source in sources}
    new = [source for source in sources if (chat, source) not in person.named]
    for number, source in enumerate(new):
        person.named[chat, source] = key = model.calls * 1000 + number
        person.messages[key] = Kept(texts[source], person.begin(chat))
    messages = [aico.Message(texts[source], conversation=chat, source_id=source) for source in sources]
    return lambda vault: vault.memory.record_many(name, messages)


def edit(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if (number := _picked(person.messages, dice)) is None:
        return None
    before, text = person.messages[number].text, _text(model, dice)
    person.messages[number].text = text
    return lambda vault: vault.conversations.edit(name, _said(vault, name, before), text)


def move(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if (number := _picked(person.messages, dice)) is None:
        return None
    message, chat = person.messages[number], dice.choice(CHATS)
    message.chat = person.begin(chat)
    return lambda vault: vault.conversations.move(name, [_said(vault, name, message.text)], chat)


def merge(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    keep, drop = dice.sample(CHATS, 2)
    kept, dropped = person.place(keep), person.place(drop)
    if not {kept, dropped} <= person.rows:
        return None
    if kept == dropped:
        return lambda vault: _raises(InvalidInput, vault.conversations.merge, name, keep=keep, drop=drop)
    person.leads = {chat: kept if to == dropped else to for chat, to in person.leads.items()} | {dropped: kept}
    for message in person.messages.values():
        message.chat = kept if message.chat == dropped else message.chat
    person.rows.remove(dropped)
    person.live = [(kept if chat == dropped else chat, until) for chat, until in person.live]
    return lambda vault: vault.conversations.merge(name, keep=keep, drop=drop)


def tag(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if (number := _picked(person.messages, dice)) is None:
        return None
    message, chosen = person.messages[number], dice.choice(("kept", "summer"))
    was_there = chosen in message.tags
    message.tags ^= {chosen}
    do = "untag" if was_there else "tag"
    return lambda vault: getattr(vault.album, do)(name, _said(vault, name, message.text), chosen)


# Facts


def remember(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    text, source = _text(model, dice), _picked(person.messages, dice) if dice.random() < 0.5 else None
    person.exists = True
    person.facts[model.calls] = Kept(text, sources=set() if source is None else {source})
    said = None if source is None else person.messages[source].text
    return lambda vault: vault.memory.remember(name, text, source=None if said is None else _said(vault, name, said))


def correct(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    believed = [n for n, fact in person.facts.items() if not fact.closed and fact.status == "accepted"]
    if (number := _picked(believed, dice)) is None:
        return None
    old, text = person.facts[number], _text(model, dice)
    person.facts[model.calls] = Kept(text, sources=set(old.sources), tags=old.tags)
    old.closed, old.tags = True, set()
    return lambda vault: vault.facts.edit(name, _fact(vault, name, old.text), text=text)


def retract(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    believed = [n for n, fact in person.facts.items() if not fact.closed and fact.status == "accepted"]
    if (number := _picked(believed, dice)) is None:
        return None
    fact = person.facts[number]
    fact.closed = True
    return lambda vault: vault.facts.retract(name, _fact(vault, name, fact.text))


def tag_fact(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    believed = [n for n, fact in person.facts.items() if not fact.closed and fact.status == "accepted"]
    if (number := _picked(believed, dice)) is None:
        return None
    fact = person.facts[number]
    fact.tags.add("held")
    return lambda vault: vault.facts.tag(name, _fact(vault, name, fact.text), "held")


def propose(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """The same few findings again and again."""
    if (source := _picked(person.messages, dice)) is None:
        return None
    text, said = f"{name} likes {dice.choice(('quinces', 'figs', 'plums'))}", person.messages[source].text
    known = [fact for fact in person.facts.values() if fact.text == text]
    if known:
        expected = Proposed.KNOWN
        if known[0].status != "rejected" and not known[0].by_person:
            known[0].sources.add(source)
    elif text in person.unsayable:
        expected = Proposed.FORGOTTEN
    else:
        expected = Proposed.WAITING
        person.facts[model.calls] = Kept(text, status="proposed", by_person=False, sources={source})

    def call(vault: aico.Vault) -> None:
        done = vault.facts.propose(name, text, message=_said(vault, name, said), model="m")
        assert done is expected, (done, expected)

    return call


def review(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if (number := _picked([n for n, fact in person.facts.items() if fact.status == "proposed"], dice)) is None:
        return None
    fact, verdict = person.facts[number], dice.choice(("accept", "reject", "edit_and_accept"))
    fact.status = "rejected" if verdict == "reject" else "accepted"
    changes = {}
    if verdict == "edit_and_accept":
        changes["text"] = _text(model, dice)
        person.facts[model.calls] = Kept(changes["text"], sources=set(fact.sources))
        fact.closed = True
    return lambda vault: getattr(vault.facts, verdict)(name, _fact(vault, name, fact.text, "proposed"), **changes)


# Forgetting


def forget_message(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if (number := _picked(person.messages, dice)) is None:
        return None
    text = person.messages[number].text
    person.forget({number}, set())
    return lambda vault: _verified(vault.memory.forget(name, id=_said(vault, name, text)))


def forget_fact(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    believed = [n for n, fact in person.facts.items() if not fact.closed and fact.status == "accepted"]
    if (number := _picked(believed, dice)) is None:
        return None
    text = person.facts[number].text
    person.forget(set(), {number})
    return lambda vault: _verified(vault.memory.forget(name, id=_fact(vault, name, text)))


def forget_subject(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if dice.random() < 0.7:
        return None
    word = dice.choice(WORDS)
    said, held = (
        {number for number, kept in among.items() if word in kept.text.split()}
        for among in (person.messages, person.facts)
    )
    person.forget(said, held)
    return lambda vault: _verified(vault.memory.forget(name, about=word))


def forget_chat(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if dice.random() < 0.7:
        return None
    chat = dice.choice(CHATS)
    place = person.place(chat)
    person.forget({number for number, message in person.messages.items() if message.chat == place}, set())
    return lambda vault: _verified(vault.memory.forget(name, conversation=chat))


def _verified(receipt: aico.Receipt) -> None:
    assert receipt.verify()


# What else a person keeps


def rate(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    number, about, sensitive = model.calls, _picked(person.messages, dice), dice.random() < 0.3
    person.exists = True
    person.events[number] = about
    text = None if about is None else person.messages[about].text

    def call(vault: aico.Vault) -> None:
        message = None if text is None else _said(vault, name, text)
        vault.feedback.record(name, "rating", str(number), message=message, is_sensitive=sensitive)

    return call


def prefer(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    key, value = dice.choice(KEYS), str(model.calls)
    person.exists = True
    if key in person.preferences and dice.random() < 0.3:
        del person.preferences[key]
        return lambda vault: vault.preferences.delete(name, key)
    person.preferences[key] = value
    return lambda vault: vault.preferences.set(name, key, value)


def put(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    key, value, about = dice.choice(KEYS), str(model.calls), _picked(person.messages, dice)
    person.exists = True
    if key in person.items and dice.random() < 0.3:
        del person.items[key]
        return lambda vault: vault.items.delete(name, PLACE, key)
    person.items[key] = value, about
    text = None if about is None else person.messages[about].text
    return lambda vault: vault.items.put(
        name, PLACE, key, value, memory=None if text is None else _said(vault, name, text)
    )


def plan(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    task = f"{name} {dice.randrange(3)}"
    if task not in person.tasks:
        person.tasks[task] = True
        return lambda vault: vault.tasks.add(task, action="ask", schedule="every 2h", user=name)
    if dice.random() < 0.3:
        del person.tasks[task]
        return lambda vault: vault.tasks.remove(task)
    person.tasks[task] = not person.tasks[task]
    do = "enable" if person.tasks[task] else "disable"
    return lambda vault: getattr(vault.tasks, do)(task)


def log(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    line = f"line {model.calls}"
    person.lines.add(line)
    return lambda vault: vault.logs.insert_log(level="INFO", message=line, subsystem="life", user_id=_user(vault, name))


def go_live(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if (chat := _picked([chat for chat in CHATS if person.place(chat) in person.rows], dice)) is None:
        return None
    person.live.append((person.place(chat), model.now + 1200))
    return lambda vault: vault.live_sessions.start(name, chat, ttl_s=1200)


def end_live(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """The oldest that is live ends."""
    alive = [one for one in person.live if one[1] > model.now]
    if not alive:
        return None
    first = min(alive, key=lambda one: one[1])
    person.live.remove(first)

    def call(vault: aico.Vault) -> None:
        oldest = min(vault.live_sessions.list_live(name), key=lambda one: one.expires_at)
        vault.live_sessions.end(name, oldest.id)

    return call


# Who a person is


def describe(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    full_name = f"{name} {model.calls}"
    is_new, person.exists, person.full_name = not person.exists, True, full_name
    if is_new:
        return lambda vault: vault.users.create_user(name, full_name=full_name)
    return lambda vault: vault.users.update_user(_user(vault, name), full_name=full_name)


def relate(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    [other] = set(PEOPLE) - {name}
    if not model.people[other].exists:
        return None
    kind = dice.choice(("sister", "neighbour"))
    do = "remove_relationship" if kind in person.kin else "add_relationship"
    person.kin ^= {kind}
    return lambda vault: getattr(vault.users, do)(_user(vault, name), _user(vault, other), kind)


def deactivate(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if dice.random() < 0.7:
        return None
    person.active, person.logins = False, []
    return lambda vault: vault.users.deactivate(_user(vault, name))


def activate(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if person.active:
        return None
    person.active = True
    return lambda vault: vault.users.activate(_user(vault, name))


def refused(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """Of somebody who was deactivated nothing is recorded, and nobody gets in."""
    if person.active:
        return None

    def call(vault: aico.Vault) -> None:
        _raises(InvalidInput, vault.memory.record, name, "whale", conversation="a")
        _raises(InvalidInput, vault.memory.remember, name, "whale")
        _raises(AccessDenied, vault.sessions.create_session, _user(vault, name))

    return call


def erase(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """In three steps, each of which a killed process may have been the last to do."""
    if dice.random() < 0.8:
        return None
    person.active, person.logins = False, []
    model.between.append(deepcopy(model))
    person.forget(set(person.messages), set(person.facts))
    for kept in (person.events, person.preferences, person.items, person.tasks):
        kept.clear()
    for held in (person.lines, person.kin, person.rows, person.live):
        held.clear()
    person.full_name = None
    model.between.append(deepcopy(model))
    model.people[name] = Person(generation=person.generation + 1)
    for other in model.people.values():
        other.kin = set()
    return lambda vault: _erased(vault, name)


def _erased(vault: aico.Vault, name: str) -> None:
    assert vault.erase_user(name).verify()


# Getting in


def set_pin(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if person.lock is not None and (not person.lock.failed or dice.random() < 0.8):
        return None  # a call whose effect nobody could see is not told from one that a kill prevented
    pin = dice.choice(PINS)
    person.lock, person.logins = Lock(pin), []
    return lambda vault: vault.pins.reset_pin(_user(vault, name), pin)


def clear_pin(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if person.lock is None or dice.random() < 0.9:
        return None
    person.lock, person.logins = None, []
    return lambda vault: vault.pins.clear_pin(_user(vault, name))


def unlock(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    if person.lock is None or not person.lock.failed or dice.random() < 0.8:
        return None
    person.lock = Lock(person.lock.pin)
    return lambda vault: vault.pins.unlock_user(_user(vault, name))


def try_pin(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """An attempt is counted before it is looked at, whether it is right or the process dies."""
    if (lock := person.lock) is None:
        return None
    pin = lock.pin if lock.failed and dice.random() < 0.1 else next(one for one in PINS if one != lock.pin)
    if lock.until is not None and lock.until > model.now:
        return lambda vault: _raises(AccessDenied, vault.pins.authenticate_user, _user(vault, name), pin)
    lock.failed, lock.until = lock.failed + 1, None
    if lock.failed == 5:
        lock.failed, lock.until = 0, model.now + min(900 << lock.lockouts, 86_400)
        lock.lockouts += 1
    model.between.append(deepcopy(model))
    if pin != lock.pin:
        return lambda vault: _raises(AccessDenied, vault.pins.authenticate_user, _user(vault, name), pin)
    person.lock = Lock(pin)
    return lambda vault: vault.pins.authenticate_user(_user(vault, name), pin)


def log_in(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    ttl_s = dice.choice((600, 3600))
    person.logins.append(model.now + ttl_s)

    def call(vault: aico.Vault) -> None:
        new = vault.sessions.create_session(_user(vault, name), ttl=timedelta(seconds=ttl_s))
        assert vault.sessions.verify_session(new.token).id == new.session.id

    return call


def log_out(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """The session that ends first, or all."""
    alive = sorted(until for until in person.logins if until > model.now)
    if not alive:
        return None
    if dice.random() < 0.3:
        person.logins = []
        return lambda vault: vault.sessions.revoke_all_user_sessions(_user(vault, name))
    person.logins.remove(alive[0])

    def call(vault: aico.Vault) -> None:
        first = min(vault.sessions.get_user_sessions(_user(vault, name)), key=lambda one: one.expires_at)
        vault.sessions.revoke_session(first.id)

    return call


# The vault as a whole


def device(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    chosen = f"device {dice.randrange(3)}"
    if chosen not in model.devices:
        model.devices[chosen] = True
        return lambda vault: vault.devices.register(chosen)
    model.devices[chosen] = not model.devices[chosen]
    do = "activate" if model.devices[chosen] else "deactivate"
    return lambda vault: getattr(vault.devices, do)(next(one.id for one in vault.devices.list() if one.name == chosen))


def wait(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    model.now += dice.choice((60, 700, 2000))
    return lambda vault: None


def export(model: Model, name: str, person: Person, dice: random.Random) -> Call:
    model.exports[name] = deepcopy(person)

    def call(vault: aico.Vault) -> None:
        file = vault.folder.parent / f"{name}.jsonl"
        written = file.with_suffix(".new")
        for left in (written, written.with_suffix(".new.part")):  # by an export that was killed
            left.unlink(missing_ok=True)
        vault.export(written, name)
        os.replace(written, file)

    return call


def bring_back(model: Model, name: str, person: Person, dice: random.Random) -> Call | None:
    """An older export of somebody who is still the same: what they took away since is back, what they forgot is not."""
    then = model.exports.get(name)
    if then is None or then.generation != person.generation:
        return None
    new = then.rows - person.rows
    if any(person.leads.get(chat) in new for chat in new):
        return None  # whether it is merged again depends on which of the two was there first
    for key, value in then.preferences.items():
        person.preferences.setdefault(key, value)
    for key, (value, about) in then.items.items():
        if about is None or about in person.messages:
            person.items.setdefault(key, (value, about))
    for among, before in ((person.messages, then.messages), (person.facts, then.facts)):
        for number, kept in before.items():
            if number in among:
                among[number].tags |= kept.tags
    for fact in then.facts:
        if fact in person.facts:
            person.facts[fact].sources |= then.facts[fact].sources & person.messages.keys()
    person.rows |= {chat for chat in then.rows if person.place(chat) == chat}
    for chat in then.leads.keys() - person.rows:
        person.leads.setdefault(chat, then.leads[chat])
    return lambda vault: vault.import_(vault.folder.parent / f"{name}.jsonl")


CREATE = (record, bring, remember, rate, prefer, put, describe, device, wait)
"""What makes somebody who is not there yet, or needs nobody."""
ACTIONS = (
    *(
        record,
        record,
        record,
        bring,
        bring,
        edit,
        move,
        merge,
        merge,
        tag,
        remember,
        correct,
        retract,
        tag_fact,
        propose,
        propose,
    ),
    *(review, review, forget_message, forget_fact, forget_subject, forget_chat, rate, prefer, put, plan, log),
    *(go_live, end_live, describe, relate, deactivate, activate, refused, erase, set_pin, clear_pin, unlock),
    *(try_pin, try_pin, try_pin, try_pin, try_pin, try_pin, log_in, log_out, device, wait, export, bring_back),
)
