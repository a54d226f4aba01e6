package condition_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
)

// Lists within lists take the square of how deep they are to compile, and nobody
// needs them deep.
func TestListsWithinLists(t *testing.T) {
	nest := func(begin, middle, end string, n int) string {
		return strings.Repeat(begin, n) + middle + strings.Repeat(end, n)
	}
	s, _ := request()
	c, err := condition.NewCompiler(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, text string
		want       bool
	}{
		{"lists", nest("[", "1", "]", 8) + " == []", true},
		{"deeper lists", nest("[", "1", "]", 9) + " == []", false},
		{"maps", nest("{1:", "1", "}", 9) + " == {}", false},
		{"maps as keys", nest("{", "1", ":1}", 9) + " == {}", false},
		{"results of map", nest("[1].map(x, ", "1", ")", 9) + " == []", false},
		{"many beside each other", "[" + strings.Repeat("{1: [2]}, ", 300) + "{}] == []", true},
		{"loops within loops", nest("[true].all(x, ", "x", ")", 20), true},
		{"lists within calls", `size([[[[` + nest("[", "1", "]", 5) + `]]]]) == 1`, false},
	} {
		_, err := c.Condition(s.Kind("request"), nil, tc.text)
		var complaint *condition.Complaint
		if ok := err == nil; ok != tc.want || !ok && (!errors.As(err, &complaint) || complaint.Remedy == "") {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
}

// The work of a condition is counted where it may be much: what goes through long
// lists within each other is given up, however the lists come about, and what is
// little work gives the same with short lists.
func TestMuchWorkIsGivenUp(t *testing.T) {
	s := condition.NewSchema()
	c, err := condition.NewCompiler(s)
	if err != nil {
		t.Fatal(err)
	}
	facts := &admission.Facts{Scan: admission.Scan{State: admission.Known, Vulnerabilities: make([]admission.Vulnerability, 400)}}
	r := &admission.Request{Action: admission.Run, Task: admission.Task{Containers: []admission.Container{{Name: "a", Image: admission.Image{Digest: "d"}, Command: make([]string, 400)}}}}
	r.Task.Containers[0].Env = []admission.Variable{{Value: strings.Repeat("x,", 400)}}
	v, err := s.NewView(r, func(*admission.Image) *admission.Facts { return facts }, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	params := []condition.Param{{Name: "long", Type: "list(string)", Value: make([]string, 400)}}
	const all = "%s.all(a, %s.all(b, %s.all(c, %s)))"
	for _, tc := range []struct {
		name, list, last string
		want             bool
	}{
		{"of the request", "container.command", "a == b", false},
		{"of facts", "image.vulnerabilities", "a == b || true", false},
		{"of parameters", "params.long", "a == b", false},
		{"of the text", "[" + strings.Repeat("1,", 150) + "1]", "a + b + c > 0", false},
		{"of a text that is split", `container.env[0].value.split(",")`, "a != b || true", false},
		{"that is added up", "(container.command + container.command)", "a == b", false},
		{"of any type", "dyn(container.command)", "a == b", false},
		{"short", "task.volumes", "a == b", true},
	} {
		e, err := c.Condition(s.Kind("container"), params, fmt.Sprintf(all, tc.list, tc.list, tc.list, tc.last))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		s.Kind("container").Each(v, nil, func(x *condition.Scope) bool {
			began := time.Now()
			if _, _, err := e.Holds(context.Background(), x); (err == nil) != tc.want || time.Since(began) > 20*time.Second {
				t.Errorf("%s: got %v after %s", tc.name, err, time.Since(began))
			}
			return true
		})
	}
}
