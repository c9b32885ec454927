"""The memory under the interfaces of other frameworks, so that a program changes one import.

Each module stands alone and needs its framework, except `mem0`, which needs nothing: `langgraph` (extra `langgraph`),
`openai_agents` (extra `openai-agents`).
"""
