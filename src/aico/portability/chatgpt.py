"""ChatGPT's export: each conversation is a tree of messages, of which its person last saw one branch.

`conversations.json`, in newer exports split into `conversations-000.json` and so on, is a list of conversations with
`title`, `create_time`, `conversation_id`, `mapping` (node id → `message`, `parent`) and `current_node`. What a person
and the assistant said on the branch that ends in `current_node` is recorded; all else is counted by kind.
`source_id` is the node's id, so a newer export of the same account adds only what is new.
"""

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from aico.data.conversations import Message
from aico.errors import InvalidInput
from aico.portability.chats import Chat, decoded_as, instant, kept_title, named_kind, timed

ROLES = {"user", "assistant"}
_KINDS = {
    "code": "code the assistant ran",
    "execution_output": "tool messages",
    "thoughts": "reasoning",
    "reasoning_recap": "reasoning",
    "user_editable_context": "custom instructions",
    "model_editable_context": "saved memories shown to the assistant",
    "tether_quote": "quoted web pages",
    "tether_browsing_code": "quoted web pages",
    "tether_browsing_display": "quoted web pages",
}
_PARTS = {
    "image_asset_pointer": "images",
    "audio_asset_pointer": "audio recordings",
    "real_time_user_audio_video_asset_pointer": "audio recordings",
    "video_container_asset_pointer": "videos",
}


class _Author(msgspec.Struct):
    role: str = ""


class _Content(msgspec.Struct):
    content_type: str = "text"
    parts: list[Any] | None = None  # texts, and objects of kinds that change with the product


class _Attachment(msgspec.Struct):
    mime_type: str | None = None


class _Metadata(msgspec.Struct):
    is_visually_hidden_from_conversation: bool | None = None
    attachments: list[_Attachment] | None = None


class _Message(msgspec.Struct):
    author: _Author | None = None
    create_time: float | str | None = None
    content: _Content | None = None
    weight: float | None = None
    recipient: str | None = None
    metadata: _Metadata | None = None


class _Node(msgspec.Struct):
    message: _Message | None = None
    parent: str | None = None


class _Conversation(msgspec.Struct):
    mapping: dict[str, _Node]
    title: str | None = None
    create_time: float | str | None = None
    current_node: str | None = None
    conversation_id: str | None = None
    id: str | None = None


def decode_chat(raw: bytes) -> Chat:
    """One conversation of the export."""
    found = decoded_as(_Conversation, raw)
    name = found.conversation_id or found.id
    if not name:
        raise InvalidInput("the conversation has no id")
    left_out = Counter[str]()
    chat = Chat(name, kept_title(found.title, left_out), left_out=left_out)
    branch = _current_branch(found)
    off_branch = found.mapping.keys() - set(branch)
    left_out["messages of other branches"] += sum(found.mapping[node].message is not None for node in off_branch)
    spoken = [(node, message) for node in branch if (message := found.mapping[node].message) is not None]
    times = timed((instant(message.create_time) for _, message in spoken), instant(found.create_time))
    for (node, message), at in zip(spoken, times, strict=True):
        _take(chat, node, message, at)
    chat.left_out = +left_out
    return chat


def _current_branch(found: _Conversation) -> list[str]:
    """The node ids from the root to `current_node`, or to the newest leaf where that names none."""
    mapping, branch, seen = found.mapping, list[str](), set[str]()
    node = found.current_node if found.current_node in mapping else _newest_leaf(mapping)
    while node is not None and node in mapping and node not in seen:
        seen.add(node)
        branch.append(node)
        node = mapping[node].parent
    return branch[::-1]


def _newest_leaf(mapping: dict[str, _Node]) -> str | None:
    parents = {node.parent for node in mapping.values()}
    leaves = [node for node in mapping if node not in parents]
    times = {leaf: instant(message.create_time) if (message := mapping[leaf].message) else None for leaf in leaves}
    return max(leaves, key=lambda leaf: at.timestamp() if (at := times[leaf]) else float("-inf"), default=None)


def _take(chat: Chat, node: str, message: _Message, at: datetime | None) -> None:
    """Add what the message says to the chat, or count why not."""
    if (kind := _kind_left_out(message)) is not None:
        chat.left_out[kind] += 1
        return
    assert message.author is not None
    text = _words(message, chat.left_out)
    if not text.strip():
        chat.left_out["messages without words"] += 1
    elif at is None:
        chat.left_out["messages without a time"] += 1
    else:
        chat.messages.append(Message(text, role=message.author.role, conversation=chat.name, at=at, source_id=node))


def _kind_left_out(message: _Message) -> str | None:
    role = message.author.role if message.author else ""
    content_type = message.content.content_type if message.content else "text"
    hidden = message.metadata is not None and message.metadata.is_visually_hidden_from_conversation
    if content_type in _KINDS:
        return _KINDS[content_type]
    if role in ("system", "tool"):
        return f"{role} messages"
    if role not in ROLES:
        return named_kind("messages of the role", role)
    if hidden or message.weight == 0:
        return "hidden messages"
    if role == "assistant" and message.recipient not in (None, "", "all"):
        return "tool calls"
    return None if content_type in ("text", "multimodal_text") else named_kind("content of the type", content_type)


def _words(message: _Message, left_out: Counter[str]) -> str:
    """The texts of a message, transcripts of speech among them; images and the like are counted."""
    texts = []
    for part in (message.content.parts if message.content else None) or ():
        kind = part.get("content_type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind == "audio_transcription" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            left_out[_PARTS[kind] if kind in _PARTS else named_kind("parts of the type", kind)] += 1
    for attached in (message.metadata.attachments if message.metadata else None) or ():
        left_out["attached files"] += not (attached.mime_type or "").startswith("image/")
    return "\n".join(text for text in texts if text)
