"""A prompt cache as an engine's config has it."""

import logging
from collections.abc import Callable

from medusa.engine.config import EngineConfig
from medusa.engine.memory import MemoryRules
from medusa.engine.prompt_cache.cache import PromptCache
from medusa.engine.prompt_cache.disk import Disk
from medusa.llama import free_memory
from medusa.llama.identity import state_identity
from medusa.llama.model import Model

log = logging.getLogger("medusa.engine")

_LARGEST_DEFAULT = 8 << 30
"""As llama-server's --cache-ram."""


def open_prompt_cache(
    model: Model, config: EngineConfig, rules: MemoryRules, wake: Callable[[], None]
) -> PromptCache:
    """Make it, and log how large it may become.

    Args:
        model: whose states are kept.
        config: decided.
        rules: what the model's memory allows.
        wake: called in any thread when an idle engine has something to do again.
    """
    limit = config.prompt_cache_ram
    if limit is None:
        limit = min((free_memory.of_host() or 0) // 4, _LARGEST_DEFAULT)
    if not limit:
        return PromptCache(rules, limit=0)
    disk = None
    if config.prompt_cache_dir is not None:
        identity = state_identity(model, rules.context_params(config))
        disk = Disk(config.prompt_cache_dir, identity, config.prompt_cache_disk, wake)
    cache = PromptCache(rules, limit, config.max_stall, disk)
    log.info("prompt cache: %s, %d texts found", cache.stats.limits, cache.stats.texts)
    return cache
