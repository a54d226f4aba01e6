package policy

import "github.com/castellan-security/castellan/internal/written"

// What is wrong with a policy, and where.
type (
	// Position is a place in the policy's text; lines and columns count from 1.
	Position = written.Position
	// Problem is one thing that is wrong with a policy.
	Problem = written.Problem
	// Problems is the error of a policy that can't be used: all that is wrong with
	// it, in the order of its lines. It is never empty.
	Problems = written.Problems
)

// ProblemsOf returns what is wrong with a policy, nil if the error is of
// something else.
func ProblemsOf(err error) Problems { return written.ProblemsOf(err) }
