"""The shell: what each command line shows, returns and leaves behind."""

import pytest
from hypothesis import given, settings, strategies as st

from runtime_stub import shell
from runtime_stub.workspace import Workspace
from tests.support.shell import run


def shown(line: str, **environment: str) -> tuple[str, int]:
    outcome = run(Workspace(), line, **environment)
    return outcome.output.decode(), outcome.exit_code


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("", ""),
        ("   # a remark", ""),
        ("echo", "\n"),
        ("echo a   b", "a b\n"),
        ("echo 'a   b' \"c  d\"", "a   b c  d\n"),
        ("echo a'b'\"c\"d", "abcd\n"),
        ("echo a\\ b \\$X \\'", "a b $X '\n"),
        ('echo "a \\"b\\" \\$X \\n"', 'a "b" $X \\n\n'),
        ("echo a#b '#c' # d", "a#b #c\n"),
        ("echo -n a", "a"),
        ("echo -e 'a\\tb\\nc\\\\'", "a\tb\nc\\\n"),
        ("echo -ne 'a\\n'", "a\n"),
        ("echo $X ${X}y '$X' \"$X\"", "1 1y $X 1\n"),
        ('echo [$UNSET] $UNSET "$UNSET" b', "[]  b\n"),
        ("echo $ 5$", "$ 5$\n"),
        ("echo $HOME $USER $PWD", "/workspace dev /workspace\n"),
        ("mkdir a; cd a; echo $PWD", "/workspace/a\n"),
        ("true; echo $?; false; echo $?", "0\n1\n"),
        ("echo a; echo b", "a\nb\n"),
        ("echo a\necho b\n\n", "a\nb\n"),
        ("echo a \\\n b", "a b\n"),
        ("true && echo yes", "yes\n"),
        ("false && echo no; echo on", "on\n"),
        ("false || echo else", "else\n"),
        ("true || echo no", ""),
        ("true &&\necho yes", "yes\n"),
        ("echo a > f; cat f f", "a\na\n"),
        ("echo a >f;echo b>>f; cat f", "a\nb\n"),
        ("> f; echo a >> g; cat f g", "a\n"),
        ("echo a > f > g; cat f; ls", "f\ng\n"),
        ("echo a2>f; cat f", "a2\n"),
        ("touch b a; mkdir c; ls", "a\nb\nc\n"),
        ("touch .a b; ls; ls -a", "b\n.a\nb\n"),
        ("mkdir -p a/b c; touch a/f; ls a c", "a:\nb\nf\nc:\n"),
        ("touch a; ls a; ls /workspace/a", "a\n/workspace/a\n"),
        (
            "mkdir d; echo hi > f; ls -l",
            "drwxr-xr-x dev dev        0 d\n-rw-r--r-- dev dev        3 f\n",
        ),
        ("echo hi > f; ls -l f", "-rw-r--r-- dev dev        3 f\n"),
        ("mkdir -p a/b; cd a/b; cd ..; pwd; cd; pwd", "/workspace/a\n/workspace\n"),
        ("touch -- -a; ls; rm -- -a; ls", "-a\n"),
        ("mkdir -p a/b; touch a/b/c; rm -r a; ls", ""),
        ("rm -f missing; rm -f; rm -rf missing", ""),
        ("echo a > f; touch f .; cat f", "a\n"),
        ("mkdir -p a; mkdir -p a", ""),
        ("sleep 0", ""),
    ],
)
def test_a_line_that_succeeds_shows_its_output(line, output):
    assert shown(line, X="1") == (output, 0)


@pytest.mark.parametrize(
    ("line", "output", "exit_code"),
    [
        ("false", "", 1),
        ("frob -x", "bash: frob: command not found\n", 127),
        ("''", "bash: : command not found\n", 127),
        ("cat", "cat: missing operand\n", 1),
        ("cat nope", "cat: nope: No such file or directory\n", 1),
        ("cat .", "cat: .: Is a directory\n", 1),
        ("cat -n f", "cat: invalid option -- 'n'\n", 2),
        ("echo a > f; cat nope f", "a\ncat: nope: No such file or directory\n", 1),
        ("ls nope", "ls: cannot access 'nope': No such file or directory\n", 1),
        ("cd nope", "bash: cd: nope: No such file or directory\n", 1),
        ("cd a b", "bash: cd: too many arguments\n", 1),
        ("touch f; cd f", "bash: cd: f: Not a directory\n", 1),
        ("cd /etc", "cd: /etc: the path leaves the workspace (/workspace)\n", 1),
        ("mkdir a a", "mkdir: cannot create directory 'a': File exists\n", 1),
        ("mkdir a/b", "mkdir: cannot create directory 'a/b': No such file or directory\n", 1),
        ("touch f; mkdir -p f", "mkdir: cannot create directory 'f': File exists\n", 1),
        ("touch a/b", "touch: cannot touch 'a/b': No such file or directory\n", 1),
        ("rm nope", "rm: cannot remove 'nope': No such file or directory\n", 1),
        ("mkdir a; rm a", "rm: cannot remove 'a': Is a directory\n", 1),
        ("rm -r .", "rm: cannot remove /workspace: the folder is in use\n", 1),
        ("echo a > nope/f", "bash: nope/f: No such file or directory\n", 1),
        ("mkdir d; echo a > d", "bash: d: Is a directory\n", 1),
        ("echo a > ../f", "bash: ../f: the path leaves the workspace (/workspace)\n", 1),
        ("echo a > $UNSET", "bash: '': not a valid path\n", 1),
        ("sleep", "sleep: expected one number of seconds\n", 1),
        ("sleep x", "sleep: expected one number of seconds\n", 1),
        ("sleep -1", "sleep: expected 0 to 86400 seconds\n", 1),
        ("sleep nan", "sleep: expected 0 to 86400 seconds\n", 1),
        ("sleep 1e9", "sleep: expected 0 to 86400 seconds\n", 1),
        ("echo a | cat", "bash: `|' is not supported in this workspace\n", 2),
        ("sleep 1 &", "bash: `&' is not supported in this workspace\n", 2),
        ("cat 2> f", "bash: `2>' is not supported in this workspace\n", 2),
        ("cat < f", "bash: `<' is not supported in this workspace\n", 2),
        ("echo $(pwd)", "bash: `$(' is not supported in this workspace\n", 2),
        ("echo 'a", "bash: unexpected end of line while looking for a matching quote\n", 2),
        ("&& a", "bash: syntax error near unexpected token `&&'\n", 2),
        ("a &&", "bash: syntax error near unexpected token `newline'\n", 2),
        ("a >", "bash: syntax error near unexpected token `newline'\n", 2),
        ("a > ; b", "bash: syntax error near unexpected token `;'\n", 2),
        ("a >\nb", "bash: syntax error near unexpected token `newline'\n", 2),
        ("a " * 60_000, "bash: the line has too many words\n", 2),
        ('"' + "$A" * 110_000 + '"', "bash: the line has too many words\n", 2),
        ("echo " + "a" * 1024 * 1024, "bash: the line is too long\n", 2),
        ("true;" * 1001, "bash: more than 1000 commands in one line\n", 2),
    ],
)
def test_a_line_that_fails_says_why(line, output, exit_code):
    assert shown(line) == (output, exit_code)


COMMANDS = ("git", "rm", "cd", "cat", "ls", "mkdir", "touch", "echo", "sleep")
OPERANDS = ("init", "add", "commit", "checkout", "-b", "-m", "-r", "--", ".", "..", "/", "a", "a/b")
SIGNS = ("'", '"', "\\", "$", "${A}", ">", ">>", "&&", "||", ";", "\n", "#", "\0", "9", "\ud800")


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(COMMANDS + OPERANDS + SIGNS),
        max_size=20,
    ),
    st.sampled_from(["", " "]),
)
def test_no_line_is_left_without_an_answer(words, glue):
    workspace = Workspace()
    line = glue.join(words)

    outcome = run(workspace, f"mkdir a; {line}", A="x")

    assert outcome.exit_code in (0, 1, 2, 127, 128, 129)
    assert workspace.is_folder(workspace.cwd)
    assert all(path.startswith("/workspace") for path in (*workspace.files, *workspace.folders))
    assert workspace.used_bytes == sum(map(len, workspace.files.values()))


def test_a_redirect_takes_the_output_and_leaves_the_errors():
    workspace = Workspace()

    outcome = run(workspace, "touch a; cat a nope > b")

    assert outcome.output == b"cat: nope: No such file or directory\n"
    assert workspace.is_file("/workspace/b")


def test_bytes_go_through_cat_and_redirects_unchanged():
    workspace = Workspace()
    workspace.write("/workspace/a", b"\xff\x00")

    run(workspace, "cat a a > b")

    assert workspace.read("/workspace/b") == b"\xff\x00\xff\x00"


def test_waits_are_handed_to_the_caller_in_their_place():
    workspace = Workspace()
    steps = shell.run(workspace, "touch a; sleep 1.5 && touch b", {})

    assert [next(steps), next(steps)] == [0.0, 1.5]
    assert workspace.children("/workspace") == ["a"]
    assert list(steps) == [0.0]
    assert workspace.children("/workspace") == ["a", "b"]


def test_of_a_long_output_both_ends_are_kept():
    workspace = Workspace()
    workspace.write("/workspace/a", b"<" + b"-" * 1_000_000 + b">")

    outcome = run(workspace, "cat a")

    assert len(outcome.output) == 2 * shell.SHOWN_BYTES
    assert (outcome.output[:1], outcome.output[-1:]) == (b"<", b">")


def test_no_output_outgrows_the_workspace():
    workspace = Workspace(max_bytes=100)
    workspace.write("/workspace/a", b"x" * 60)

    assert b"may not exceed 100 bytes" in run(workspace, "cat a a").output
    assert b"too long" in run(workspace, "echo $A$A", A="x" * 60).output
    assert b"may not exceed 100 bytes" in run(workspace, "cat a > b").output
    assert workspace.children("/workspace") == ["a"]
