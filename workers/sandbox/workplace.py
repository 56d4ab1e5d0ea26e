"""A developer's git working copy. It uses the real git."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers.sandbox.git_backend import git


@dataclass(frozen=True, slots=True)
class Workplace:
    """A git working copy, and the URL to which its commits are pushed."""

    path: Path
    remote: str
    author: str = "Ana <ana@example.com>"

    def start(self, branch: str = "main") -> None:
        """Create the folder and an empty git repository in it."""
        self.path.mkdir(parents=True)
        git("init", "--quiet", f"--initial-branch={branch}", "--template=", cwd=self.path)
        git("remote", "add", "origin", self.remote, cwd=self.path)

    def write(self, path: str, content: str | bytes) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, message: str) -> str:
        """Commit all changes. Return the commit's id."""
        git("add", "--all", cwd=self.path)
        git("commit", "--quiet", "--allow-empty", "-m", message, cwd=self.path, env=self._person())
        return self.head()

    def head(self) -> str:
        """Return the id of the current commit."""
        return git("rev-parse", "HEAD", cwd=self.path).decode().strip()

    def git(self, *arguments: str) -> str:
        """Run a git command in the working copy. Return its output."""
        return git(*arguments, cwd=self.path, env=self._person()).decode()

    def push(self, *what: str) -> None:
        """Push these refs. By default, push the current branch."""
        git("push", "--quiet", "origin", *(what or ("HEAD",)), cwd=self.path)

    def _person(self) -> dict[str, str]:
        """Return environment variables that set git's author and committer."""
        name, _, email = self.author.partition(" <")
        return {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in (("NAME", name), ("EMAIL", email.rstrip(">")))
        }
