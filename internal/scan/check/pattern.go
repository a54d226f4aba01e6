package check

import (
	"regexp"
	"sync"
)

// lazily compiles an expression when it is first used: most commands of the
// program check nothing, and none should wait for it at its start.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
