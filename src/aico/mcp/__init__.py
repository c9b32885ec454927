"""The memory as tools for assistants, over the Model Context Protocol on standard input and output: `aico mcp`.

`requests` is what the tools take, `tools` what they do, `server` speaks the protocol, `lines` sees to it that every line of a
client is answered; `clients` and `jsonc` change the configuration files of the programs that start it.
"""
