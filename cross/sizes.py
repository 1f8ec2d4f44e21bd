"""Says how large a program is and which ten parts of it are the largest, and examines it.

    python3 sizes.py UNSTRIPPED STRIPPED BYTES_MAX

Exits with 1 when the stripped one is larger than BYTES_MAX or not static. A function counts for the crate
that its name begins with, what has no Rust name for the C and assembly code (of the crypto and of libc).
"""

import collections
import re
import struct
import sys

PT_INTERP, PT_DYNAMIC, DT_NEEDED, SHT_SYMTAB, SHT_NOBITS = 3, 2, 1, 2, 8
STT_FUNC, STT_OBJECT = 2, 1


class Elf:
    """A little-endian ELF file of 32 or 64 bits."""

    def __init__(self, path):
        self.data = open(path, "rb").read()
        self.wide = self.data[4] == 2
        head = struct.unpack_from("<QQQIHHHHHH" if self.wide else "<IIIIHHHHHH", self.data, 24)
        _, self.phoff, shoff, _, _, self.phsize, self.phnum, shsize, shnum, shstr = head
        form = "<IIQQQQIIQQ" if self.wide else "<IIIIIIIIII"
        self.sections = [struct.unpack_from(form, self.data, shoff + i * shsize) for i in range(shnum)]
        self.names = self.sections[shstr][4]

    def text(self, at):
        return self.data[at : self.data.index(b"\0", at)].decode("utf-8", "replace")

    def sized(self):
        """Name and size of each section that is in the file and in memory."""
        for name, kind, flags, _, _, size, *_ in self.sections:
            if flags & 2 and kind != SHT_NOBITS:
                yield self.text(self.names + name), size

    def symbols(self):
        """Name, type, address and size; each address once."""
        seen = set()
        for _, kind, _, _, offset, size, link, *_ in self.sections:
            if kind != SHT_SYMTAB:
                continue
            names = self.sections[link][4]
            form, step = ("<IBBHQQ", 24) if self.wide else ("<IIIBBH", 16)
            for at in range(offset, offset + size, step):
                fields = struct.unpack_from(form, self.data, at)
                if self.wide:
                    name, info, _, section, value, length = fields
                else:
                    name, value, length, info, _, section = fields
                if length and section and (value, info & 15) not in seen:
                    seen.add((value, info & 15))
                    yield self.text(names + name), info & 15, length

    def is_static(self):
        for i in range(self.phnum):
            at = self.phoff + i * self.phsize
            kind = struct.unpack_from("<I", self.data, at)[0]
            if kind == PT_INTERP:
                return False
            if kind == PT_DYNAMIC:
                offset = struct.unpack_from("<Q" if self.wide else "<I", self.data, at + (8 if self.wide else 4))[0]
                tag = -1
                while tag != 0:
                    tag = struct.unpack_from("<q" if self.wide else "<i", self.data, offset)[0]
                    if tag == DT_NEEDED:
                        return False
                    offset += 16 if self.wide else 8
        return True


def crate(name):
    """The crate of a mangled name, in either of Rust's ways to mangle."""
    if name.startswith("_ZN"):
        first = re.match(r"_ZN(\d+)", name)
        word = name[first.end() : first.end() + int(first[1])]
        word = re.sub(r"\$(LT|RF|BP|u20)\$|^_|mut |dyn |const ", " ", word)
        found = re.search(r"[a-z_][a-z0-9_]*(?=\.\.|$)", word) or re.search(r"[a-z_][a-z0-9_]+", word)
        return found[0].strip("_") if found else "core"
    if name.startswith("_R"):
        found = re.search(r"C(?:s[0-9a-zA-Z]*_)?(\d+)_?([a-z_]\w*)", name)
        return found[2][: int(found[1])] if found else "core"
    return None


def main():
    unstripped, stripped, most = Elf(sys.argv[1]), Elf(sys.argv[2]), int(sys.argv[3])
    parts = collections.Counter()
    by_section = dict(unstripped.sized())
    named = 0
    for name, kind, size in unstripped.symbols():
        if kind == STT_FUNC:
            owner = crate(name)
            parts[owner if owner else "C and assembly (crypto, libc)"] += size
            named += size
    unwinding = (".eh_frame", ".eh_frame_hdr", ".gcc_except_table", ".ARM.exidx", ".ARM.extab")
    parts["tables for unwinding"] = sum(by_section.pop(name, 0) for name in unwinding)
    parts["code without a name"] = max(0, by_section.pop(".text", 0) - named)
    parts["constants: texts, tables, the page"] = by_section.pop(".rodata", 0)
    parts["addresses and variables"] = sum(by_section.values())
    size = len(stripped.data)
    print(f"{size:,} bytes, {'static' if stripped.is_static() else 'NOT STATIC'}")
    for part, bytes_ in parts.most_common(10):
        print(f"  {bytes_:>9,}  {100 * bytes_ / size:4.1f} %  {part}")
    if size > most or not stripped.is_static():
        sys.exit(f"{sys.argv[2]} has to be static and at most {most:,} bytes")


main()
