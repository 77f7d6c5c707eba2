"""Text to train tiny tokenizers on, and text to trip them up."""

# ruff: noqa: RUF001

CORPUS = """\
The river had been rising since the morning, and by noon the lower meadow was a lake.
We moved the animals first, then the hay, and last of all the old piano from the mill.
Nobody had played it for years; still, it seemed wrong to leave it to the water.
In 1903 the same flood took the bridge, 27 trees and half of the baker's garden.
"It will stop before the church," said my grandmother, "it always stops before the church."
def area(width, height):\n    return width * height  # square metres\n
if x != 3.14159:\n\tprint('not pi')\n
Der Fluss stieg seit dem Morgen, und gegen Mittag war die untere Wiese ein See.
La rivière montait depuis le matin ; à midi, le pré n'était plus qu'un étang.
Река поднималась с утра, и к полудню нижний луг превратился в озеро.
川は朝から増水し、昼には下の牧草地が湖になっていた。
从早上开始河水就在上涨，到中午低处的草地已经成了湖。
""".splitlines(keepends=True)

NASTY = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\t\tindented",
    "Hello",
    " Hello",
    "   Hello   world  ",
    "hello\nworld\r\n",
    "I'm sure they'RE we've, isn't it?",
    "3 33 333 3333 33333 3.14 1,000,000",
    "🦙🚀 emoji 👩‍👩‍👧‍👦 family",
    "川は朝から増水し、从早上开始。",
    "Ωμέγα Привет עברית العربية",
    "e\N{COMBINING ACUTE ACCENT}cole naïve ﬁne",
    "a\N{LOWER ONE EIGHTH BLOCK}b \N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}c",
    "\x00\x01\x7f control",
    "def f(x):\n    return x**2  # x²\n",
    "!!!???...---___***///\\\\|||",
    "ALLCAPS camelCase snake_case https://example.org/a?b=c&d=%20",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \N{REPLACEMENT CHARACTER}",
    "w" * 200,
]
