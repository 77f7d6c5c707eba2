"""Between text and tokens: chat templates in, whole characters out."""
