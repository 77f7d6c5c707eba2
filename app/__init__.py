"""Everything HTTP and command line: the OpenAI API over the engine in `medusa`."""
