"""All endpoints of Ollama's API."""

from fastapi import APIRouter

from app.dialects.ollama import chat, embed, generate, models

router = APIRouter()
for module in (chat, generate, embed, models):
    router.include_router(module.router)
