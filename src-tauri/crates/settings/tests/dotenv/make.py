"""Writes `expected.json`: how python-dotenv reads each file of the corpus below.

    python make.py NEW_PYTHON OLD_PYTHON > expected.json

Both are interpreters that have python-dotenv: 1.2.4 for the truth, 1.1.1 for what an older one that is still installed in many
projects reads. Nothing here knows Embedbar; `tests/dotenv.rs` compares. `make.py --read` is what it runs in each of them.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = [
    ("plain", b"A=b\n"),
    ("no final newline", b"A=b"),
    ("empty file", b""),
    ("only a byte order mark", b"\xef\xbb\xbf"),
    ("only blanks", b" \t\n\n  "),
    ("byte order mark", b"\xef\xbb\xbfA=b\nC=d\n"),
    ("byte order mark twice", b"\xef\xbb\xbf\xef\xbb\xbfA=b\n"),
    ("byte order mark in the middle", b"A=b\n\xef\xbb\xbfC=d\n"),
    ("byte order mark, then a comment", b"\xef\xbb\xbf# c\nA=b\n"),
    ("carriage return and newline", b"A=b\r\nC=d\r\n"),
    ("carriage returns alone", b"A=b\rC=d\r# e\rF=g"),
    ("mixed line ends", b"A=b\r\nC=d\nE=f\rG=h\n\rI=j\r\n\r\nK=l"),
    ("comment", b"# A=b\nC=d\n"),
    ("indented comment", b"  # A=b\n\t#\nC=d\n"),
    ("comment without newline", b"A=b\n# end"),
    ("blank lines between", b"\n\nA=b\n\n\n  \nC=d\n\n"),
    ("indented", b"  A=b\n\tC=d\n"),
    ("spaces around equals", b"A = b\nC\t=\td\nE= f\nG =h\n"),
    ("trailing blanks", b"A=b   \nC=d\t\n"),
    ("inner blanks", b"A=b c  d\n"),
    ("empty value", b"A=\nB=\"\"\nC=''\nD= \nE"),
    ("no value", b"A\nB \nC # d\nE#f\n"),
    ("no value last wins", b"A=b\nA\n"),
    ("no value first", b"A\nA=b\n"),
    ("duplicate", b"A=b\nC=d\nA=e\n"),
    ("inline comment", b"A=b # c\nD=e\t# f\n"),
    ("hash without blank", b"A=b#c\nD=e#f g #h\n"),
    ("hash first", b"A=#b\nC=# d\n"),
    ("comment in place of the value", b"A= # b\nC=  #d\nE=\t# f\n"),
    ("several hashes", b"A=b # c # d\nE=f## g\nH=i #\nJ=k ##l\n"),
    ("hash after quotes", b"A=\"b\" # c\nD='e'#f\nG=\"h\"   #i\n"),
    ("hash in quotes", b"A=\"b # c\"\nD='e # f'\n"),
    ("no-break space before a hash", "A=b\u00a0# c\n".encode()),
    ("double quotes", b'A="b"\nC="d e"\nF=" g "\n'),
    ("single quotes", b"A='b'\nC='d e'\nF=' g '\n"),
    ("quotes in the middle", b"A=b\"c\"d\nE=it's\nF=\"g\"h\nI=j\n"),
    ("quotes inside quotes", b"A=\"it's\"\nB='say \"x\"'\n"),
    ("escaped quotes", b"A=\"b \\\" c\"\nD='e \\' f'\n"),
    ("escapes in double quotes", b'A="a\\nb\\tc\\rd\\\\e\\af\\bg\\fh\\vi"\n'),
    ("escapes in single quotes", b"A='a\\nb\\tc\\\\d\\'e'\n"),
    ("unknown escapes", b'A="a\\qb\\$c\\x41\\u0041\\0"\nB=\'a\\qb\\"c\'\n'),
    ("escapes unquoted", b"A=a\\nb\\tc\\\\d\n"),
    ("backslash before the closing quote", b'A="b\\\\"\nC=\'d\\\\\'\nE=f\n'),
    ("backslashes before an escaped quote", b'A="b\\\\\\"c"\nD=e\n'),
    ("odd backslash before the closing quote", b'A="b\\"\nC=d\n'),
    ("backslash at the end of a line", b"A=b\\\nC=d\n"),
    ("backslash at the end of the file", b'A="b\\'),
    ("several lines in double quotes", b'A="b\nc\nd"\nE=f\n'),
    ("several lines in single quotes", b"A='b\n# c\nD=d'\nE=f\n"),
    ("several lines with carriage returns", b'A="b\r\nc\rd"\r\nE=f\r\n'),
    ("unfinished double quotes", b'A="b\nC=d\n'),
    ("unfinished single quotes", b"A='b\nC=d\n"),
    ("unfinished quotes closed by a later line", b'A="b\nC="d"\nE=f\n'),
    ("unfinished quotes at the end", b'A=b\nC="'),
    ("text after quotes", b'A="b" c\nD=\'e\'f\nG=h\n'),
    ("text after quotes over two lines", b'A="b\nc" d\nE=f\n'),
    ("export", b"export A=b\nexport\tC=d\n  export   E=f\n"),
    ("export with quotes", b"export A=\"b\"\nexport 'C'=d\n"),
    ("export without a value", b"export A\nexport\nexport B C\n"),
    ("export as a name", b"export=b\nexportA=c\nexport =d\n"),
    ("export and nothing", b"export \nA=b\n"),
    ("export and a comment", b"export # c\nA=b\n"),
    ("export twice", b"export export A=b\nC=d\n"),
    ("export at the end", b"A=b\nexport "),
    ("quoted name", b"'A'=b\n'C D'=e\n'F=G'=h\n'I#J' = k\n"),
    ("quoted name over two lines", b"'A\nB'=c\nD=e\n"),
    ("unfinished quoted name", b"'A=b\nC=d\n"),
    ("empty quoted name", b"''=b\nC=d\n"),
    ("double quoted name", b'"A"=b\nC=d\n'),
    ("name with signs", b"A-B=c\nA.B=d\n1A=e\n$A=f\nA:B=g\n"),
    ("lower case", b"a=b\nA=c\n"),
    ("no name", b"=b\nC=d\n"),
    ("two words", b"A B\nC D=e\nF=g\n"),
    ("yaml", b"A: b\nC=d\n"),
    ("two equals", b"A==b\nC=d=e\nF= =g\n"),
    ("expansion with braces", b"A=${B}\nC=\"${D:-e}\"\nF='${G}'\nH=x${I}y${J}z\n"),
    ("no expansion", b"A=$B\nC=$(d)\nE=${F\nG=$\nH=$$I\nJ=${K:x}\nL=\\$M\n"),
    ("empty expansion", b"A=${}\nB=${:-c}\nD=${ E }\nF=${G-h}\nI=${J:-${K}}\nL=${M\\}\n"),
    ("expansion over a colon", b"A=${B:-c:d}\nE=${F:}${G}\n"),
    ("json", b"A={\"b\": [1, 2]}\nC='{\"d\": 1}'\n"),
    ("url", b"A=postgres://u:p@h:5432/d?x=y&z=1#f\n"),
    ("windows path", b"A=C:\\new\\table\nB=\"C:\\new\\table\"\nC='C:\\new\\table'\n"),
    ("tilde", b"A=~/b\nC=\"~/d\"\n"),
    ("letters of other languages", "A=b\u00fc\u4f60\u597d\U0001f600\n\u00c4\u00d6=\u00fc\n".encode()),
    ("check marks as in the seed", "PAPR_ENABLE_MLX=true  # \u274c Conflicts with Core ML\n".encode()),
    ("vertical tab and form feed", b"A=b\x0bc\x0c\nD\x0b=\x0ce\n\x0c\nF=g\n"),
    ("separators of the file and group", b"A=b\x1c\nC=\x1dd\x1e\x1f\nE=f\n"),
    ("next line and line separator", "A=b\u0085C=d\nE=f\u2028G=h\u2029\n\u2028I=j\n".encode()),
    ("other spaces", "A\u3000=\u2003b\u2003c\u3000\n\u00a0D=e\n".encode()),
    ("zero width space is no space", "A=\u200bb\u200b\nC\u200b=d\n".encode()),
    ("space as the mark of a hash", "A=b\u3000#c\nD=e\u200b#f\n".encode()),
    ("null byte", b"A=b\0c\nD=e\n"),
    ("bell and delete", b"A=\x07b\x7f\n"),
    ("invalid utf-8", b"A=b\n# caf\xe9\nC=d\n"),
    ("truncated utf-8", b"A=b\xf0\x9f"),
    ("surrogate", b"A=\xed\xa0\x80\n"),
    ("utf-16", "\ufeffA=b\n".encode("utf-16-le")),
    ("shell", b"set -a\n. ./other\nif true; then A=b; fi\nC=d; E=f\n"),
    ("command", b"A=`date`\nB=$(date)\n"),
    ("heredoc", b"A=<<END\nb\nEND\nC=d\n"),
    ("semicolons", b"A=b;\nC='d';\nE=f\n"),
    ("ini section", b"[section]\nA=b\n"),
    ("merge conflict", b"<<<<<<< HEAD\nA=b\n=======\nA=c\n>>>>>>> x\n"),
    ("the seed", b"PAPR_ENABLE_COREML=true\nPAPR_ENABLE_MLX=true  # x\nPAPR_COREML_MODEL=./coreml/Qwen3-Embedding-4B.mlpackage\nTOKENIZERS_PARALLELISM=false\n"),
]


def read_all() -> None:
    """Reads the corpus with the python-dotenv of this interpreter."""
    from importlib.metadata import version

    from dotenv.parser import parse_stream
    from dotenv.variables import Variable, parse_variables

    read = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        for name, content in CORPUS:
            path.write_bytes(content)
            try:
                # As `load_dotenv` opens it: UTF-8, every kind of newline becomes `\n`.
                with open(path, encoding="utf-8") as stream:
                    statements = list(parse_stream(stream))
            except UnicodeDecodeError:
                read[name] = None
                continue
            bindings, errors = [], []
            for statement in statements:
                original = statement.original
                blank = re.match(r"\s*", original.string).group()
                line = original.line + blank.count("\n")
                if statement.error:
                    errors.append(line)
                elif statement.key is not None:
                    value = statement.value
                    expands = value is not None and any(isinstance(it, Variable) for it in parse_variables(value))
                    bindings.append({"key": statement.key, "value": value, "line": line, "expands": expands})
            read[name] = {"bindings": bindings, "errors": errors}
    json.dump({"version": version("python-dotenv"), "read": read}, sys.stdout)


def main(new_python: str, old_python: str) -> None:
    def run(python: str) -> dict:
        return json.loads(subprocess.run([python, __file__, "--read"], check=True, stdout=subprocess.PIPE).stdout)

    new, old = run(new_python), run(old_python)
    assert len({name for name, _ in CORPUS}) == len(CORPUS), "names are keys"
    cases = []
    for name, content in CORPUS:
        case = {"name": name, "base64": base64.b64encode(content).decode(), "shown": repr(content)[1:]}
        case["read"] = new["read"][name]
        if old["read"][name] != new["read"][name]:
            case["read_by_older"] = old["read"][name]
        cases.append(case)
    document = {"python_dotenv": new["version"], "older_python_dotenv": old["version"], "cases": cases}
    print(json.dumps(document, indent=1, ensure_ascii=True))


if __name__ == "__main__":
    if sys.argv[1:] == ["--read"]:
        read_all()
    else:
        main(*sys.argv[1:])
