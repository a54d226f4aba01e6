package vm

import (
	"regexp"
	"strings"
)

// EndMark begins the last line that the guest writes; the exit code of its
// tests follows. Without it the guest did not come to its end.
const EndMark = "castellan guest ended with "

// tailLines is how much of the console is shown when the guest dies: a kernel's
// panic with its stack.
const tailLines = 60

// Result is one test that ran in the guest.
type Result struct {
	Name    string // slashes between a test and its subtests
	Outcome string // PASS, FAIL, SKIP; empty while it runs
	Took    string // by the guest's clock, as in 1.25s; empty while it runs
	Output  []string
}

// Console reads the guest's serial console line by line: the output of go test
// -test.v=test2json, with the kernel's messages between.
type Console struct {
	Panic bool   // the kernel panicked
	End   string // what follows EndMark; empty before the end

	results []*Result
	byName  map[string]*Result
	current *Result // whose output the next lines are
	tail    []string
}

// framed is how testing marks its own lines with -test.v=test2json: by a
// control character, so that a test's output can't be taken for them.
var framed = regexp.MustCompile(`^\x16(?:=== (RUN|PAUSE|CONT|NAME) +|\s*--- (PASS|FAIL|SKIP): )(\S*)(?: \((\S+)\))?`)

// Line takes in one line.
func (c *Console) Line(line string) {
	line = strings.TrimRight(line, "\r\n")
	c.tail = append(c.tail, line)
	if len(c.tail) > tailLines {
		c.tail = c.tail[1:]
	}
	if strings.Contains(line, "Kernel panic - not syncing") {
		c.Panic = true
	}
	if _, status, ok := strings.Cut(line, EndMark); ok && c.End == "" {
		c.End = strings.TrimSpace(status)
		return
	}
	m := c.frame(line)
	if m == nil {
		if c.current != nil {
			c.current.Output = append(c.current.Output, line)
		}
		return
	}
	if m[3] == "" { // "=== NAME" alone: what follows is no test's
		c.current = nil
		return
	}
	c.current = c.result(m[3])
	if m[2] != "" {
		c.current.Outcome, c.current.Took = m[2], m[4]
	}
}

// frame finds a line of testing's own, which a kernel message without a newline
// or the output of a test may precede.
func (c *Console) frame(line string) []string {
	i := strings.IndexByte(line, 0x16)
	if i < 0 {
		return nil
	}
	m := framed.FindStringSubmatch(line[i:])
	if m != nil && c.current != nil && strings.TrimSpace(line[:i]) != "" {
		c.current.Output = append(c.current.Output, line[:i])
	}
	return m
}

func (c *Console) result(name string) *Result {
	if r := c.byName[name]; r != nil {
		return r
	}
	if c.byName == nil {
		c.byName = map[string]*Result{}
	}
	r := &Result{Name: name}
	c.byName[name] = r
	c.results = append(c.results, r)
	return r
}

// Results returns the tests in the order in which they began.
func (c *Console) Results() []Result {
	all := make([]Result, 0, len(c.results))
	for _, r := range c.results {
		all = append(all, *r)
	}
	return all
}

// Tail returns the last lines.
func (c *Console) Tail() string { return strings.Join(c.tail, "\n") }
