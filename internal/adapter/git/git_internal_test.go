package git

import (
	"slices"
	"testing"
)

// Every run of git is kept from what a repository's settings may ask of it.
func TestCommandIsBound(t *testing.T) {
	c := (&Repository{path: "/r", program: "/usr/bin/git"}).command(t.Context(), "log")
	for _, want := range []string{"core.fsmonitor=false", "core.hooksPath=/dev/null", "diff.external=", "core.attributesFile=/dev/null", "log.showSignature=false", "log.mailmap=false",
		"core.bigFileThreshold=64m", "fetch.bundleURI="} {
		if i := slices.Index(c.Args, want); i < 1 || c.Args[i-1] != "-c" || i > slices.Index(c.Args, "log") {
			t.Errorf("%q is not set before the command: %q", want, c.Args)
		}
	}
	for _, want := range []string{"--no-pager", "--no-optional-locks", "--no-replace-objects"} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("%s lacks in %q", want, c.Args)
		}
	}
	want := []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=", "GIT_NO_LAZY_FETCH=1", "GIT_ATTR_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0", "GIT_ALLOC_LIMIT=1g", "GIT_GRAFT_FILE=/dev/null"}
	if !slices.Equal(c.Env, want) {
		t.Errorf("environment %q, want %q", c.Env, want)
	}
}
