package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// Exit codes, as every help text names them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitViolated = 3 // a policy was violated, which the output says
)

const exitHelp = `
Exit codes: 0 done, 1 failed, 2 wrong usage.`

// exitHelpJudged is for commands that hold something against a policy.
const exitHelpJudged = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the policy is violated.`

// usageError marks what the user typed as wrong, so that it exits with 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errSaid marks a failure that the output tells already, to a program.
var errSaid = errors.New("the output says why")

// report prints an error as a person needs it, cause first, then the remedy,
// and returns the exit code. command is the one that was asked for.
func report(w io.Writer, command string, err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errUnwell) || errors.Is(err, errSaid) {
		return exitFailed
	}
	if errors.Is(err, errViolated) {
		return exitViolated
	}
	// Several problems of one document have a line each.
	for i, l := range strings.Split(err.Error(), "\n") {
		lead := "castellan: "
		if i > 0 {
			lead = "  "
		}
		fmt.Fprintf(w, "%s%s\n", lead, printable(l))
	}
	if remedy := fault.Remedy(err); remedy != "" {
		fmt.Fprintf(w, "  remedy: %s\n", printable(remedy))
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "  see: %s --help\n", command)
		return exitUsage
	}
	return exitFailed
}
