"""The Hugging Face Hub: what to download, and a copy of it on this machine."""
