"""Claude's export: `conversations.json` is a list of conversations, each with its messages in order.

A conversation has `uuid`, `name`, `created_at` and `chat_messages`; a message `uuid`, `sender` ("human" or
"assistant"), `created_at`, `text`, and in newer exports `content`, a list of typed blocks. Where there are text
blocks they are the message: `text` then repeats them with notes in the place of what a viewer cannot show. Some
exports name each message's parent; alternatives to the branch of the last message are counted, not recorded.

What a person pasted or attached reaches the export as `extracted_content`. It was not said, and a pasted book would
drown the conversation, so it is counted and left out.
"""

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from aico.data.conversations import Message
from aico.errors import InvalidInput
from aico.portability.chats import Chat, decoded_as, instant, kept_title, named_kind, timed

ROLES = {"human": "user", "assistant": "assistant"}
_BLOCKS = {"tool_use": "tool calls", "tool_result": "tool messages", "thinking": "reasoning", "image": "images"}


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _ChatMessage(msgspec.Struct):
    uuid: str
    sender: str = ""
    text: str | None = None
    content: list[_Block] | None = None
    created_at: Any = None  # ISO text so far
    parent_message_uuid: str | None = None
    attachments: list[msgspec.Raw] | None = None
    files: list[msgspec.Raw] | None = None


class _Conversation(msgspec.Struct):
    uuid: str
    chat_messages: list[_ChatMessage]
    name: str | None = None
    summary: str | None = None
    created_at: Any = None


def decode_chat(raw: bytes) -> Chat:
    """One conversation of the export."""
    found = decoded_as(_Conversation, raw)
    if not found.uuid:
        raise InvalidInput("the conversation has no id")
    left_out = Counter[str]()
    chat = Chat(found.uuid, kept_title(found.name, left_out), left_out=left_out)
    abandoned = _abandoned(found.chat_messages)
    left_out["messages of other branches"] += len(abandoned)
    left_out["summaries written by Claude"] += bool(found.summary)
    spoken = [message for message in found.chat_messages if message.uuid not in abandoned]
    times = timed((instant(message.created_at) for message in spoken), instant(found.created_at))
    for message, at in zip(spoken, times, strict=True):
        _take(chat, message, at)
    chat.left_out = +left_out
    return chat


def _abandoned(messages: list[_ChatMessage]) -> set[str]:
    """Messages that another took the place of on the way to the last one, and all that follow from them."""
    parent_of = {message.uuid: message.parent_message_uuid for message in messages}
    current, step = set[str](), messages[-1].uuid if messages else None
    while step is not None and step in parent_of and step not in current:
        current.add(step)
        step = parent_of[step]
    answered = {parent_of[uuid] for uuid in current} - {None}
    gone = set[str]()
    for message in messages:
        parent = message.parent_message_uuid
        if message.uuid not in current and (parent in answered or parent in gone):
            gone.add(message.uuid)
    return gone


def _take(chat: Chat, message: _ChatMessage, at: datetime | None) -> None:
    """Add what the message says to the chat, or count why not."""
    chat.left_out["attachments (their text is in the export)"] += len(message.attachments or ())
    chat.left_out["files (only their names are in the export)"] += len(message.files or ())
    role = ROLES.get(message.sender)
    text = _words(message, chat.left_out)
    if role is None:
        chat.left_out[named_kind("messages of the sender", message.sender)] += 1
    elif not text.strip():
        chat.left_out["messages without words"] += 1
    elif at is None:
        chat.left_out["messages without a time"] += 1
    else:
        chat.messages.append(Message(text, role=role, conversation=chat.name, at=at, source_id=message.uuid))


def _words(message: _ChatMessage, left_out: Counter[str]) -> str:
    if not message.content:
        return message.text or ""
    texts = []
    for block in message.content:
        if block.type in ("text", "voice_note") and block.text is not None:
            texts.append(block.text)
        else:
            left_out[_BLOCKS.get(block.type) or named_kind("blocks of the type", block.type)] += 1
    return "\n".join(text for text in texts if text)
