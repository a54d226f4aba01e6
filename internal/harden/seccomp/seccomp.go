// Package seccomp writes a profile of behaviour as a seccomp profile in the form
// that Docker reads.
//
// Where the system calls of a group were learned, they and what the engine and
// every program need to start are permitted; where they were not, what Docker
// permits by itself without the privileged calls that were not learned.
package seccomp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// Document is a seccomp profile as Docker reads it.
type Document struct {
	DefaultAction string `json:"defaultAction"`
	Architectures []Arch `json:"archMap"`
	Syscalls      []Rule `json:"syscalls"`
}

// Arch is an architecture with those whose programs it runs too.
type Arch struct {
	Architecture     string   `json:"architecture"`
	SubArchitectures []string `json:"subArchitectures"`
}

// Rule says what happens to some system calls.
type Rule struct {
	Names    []string `json:"names"`
	Action   string   `json:"action"`
	ErrnoRet *uint    `json:"errnoRet,omitempty"`
	Args     []Arg    `json:"args,omitempty"`
	Comment  string   `json:"comment,omitempty"`
	Includes *Filter  `json:"includes,omitempty"`
}

// Arg is a condition on an argument.
type Arg struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo,omitempty"`
	Op       string `json:"op"`
}

// Filter says on which hosts a rule is in force.
type Filter struct {
	MinKernel string `json:"minKernel,omitempty"`
}

const (
	allow  = "SCMP_ACT_ALLOW"
	refuse = "SCMP_ACT_ERRNO" // with EPERM
)

// Write returns the seccomp profile, and what it can't say.
func Write(p *profile.Profile) (string, []intent.Note, error) {
	d, notes := Compile(p)
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", nil, fmt.Errorf("write seccomp profile: %w", err)
	}
	return string(b) + "\n", notes, nil
}

// Compile returns the rules for a profile.
func Compile(p *profile.Profile) (Document, []intent.Note) {
	d := Document{
		DefaultAction: refuse,
		Architectures: []Arch{{"SCMP_ARCH_X86_64", []string{"SCMP_ARCH_X86", "SCMP_ARCH_X32"}}, {"SCMP_ARCH_AARCH64", []string{"SCMP_ARCH_ARM"}}},
	}
	names, comment := learned(p), fmt.Sprintf("learned of %s, revision %d", intent.Line(string(p.Group)), p.Revision)
	start := set{}
	if len(p.Calls) == 0 {
		names, comment = usual(p), "what Docker permits by itself, without privileged calls that were not learned; system calls were not learned"
	} else {
		for name := range widened(setOf(atStart)) {
			if !names[name] {
				start[name] = true
			}
		}
	}
	free := intent.Has(p, event.KindClone)
	var special []Rule
	for _, f := range filtered {
		if (names[f.name] || start[f.name]) && !(f.name == "clone" && free) {
			special = append(special, f.rules()...)
			delete(names, f.name)
			delete(start, f.name)
		}
	}
	tracing := take(names, kindCalls[event.KindPtrace])
	if free {
		names["clone"], names["clone3"] = true, true
	} else {
		delete(names, "clone3")
	}
	d.add(Rule{Names: sorted(names), Comment: comment})
	d.add(Rule{Names: sorted(start), Comment: "what the engine and programs need to start"})
	d.add(Rule{Names: tracing, Comment: "older kernels let seccomp be passed by tracing", Includes: &Filter{MinKernel: "4.8"}})
	d.Syscalls = append(d.Syscalls, special...)
	if !free {
		none := uint(enosys)
		d.Syscalls = append(d.Syscalls, Rule{Names: []string{"clone3"}, Action: refuse, ErrnoRet: &none, Comment: "its flags can't be looked at: the C library goes on with clone"})
	}
	return d, notes(p, start)
}

// enosys is the error of calls that a kernel does not have.
const enosys = 38

func (d *Document) add(r Rule) {
	if len(r.Names) > 0 {
		r.Action = allow
		d.Syscalls = append(d.Syscalls, r)
	}
}

// learned are the calls of a profile, those that are the same on other
// architectures or in other libraries, and those of privileged calls.
func learned(p *profile.Profile) set {
	names := set{}
	for _, c := range p.Calls {
		names[c.Name] = true
	}
	if names["clone3"] {
		names["clone"] = true
	}
	names = widened(names)
	for _, x := range p.Privileges {
		for _, n := range kindCalls[x.Kind] {
			names[n] = true
		}
	}
	return names
}

// usual are Docker's, without privileged ones that were not learned.
func usual(p *profile.Profile) set {
	names := setOf(ordinary)
	for _, calls := range kindCalls {
		for _, n := range calls {
			if n != "clone" {
				delete(names, n)
			}
		}
	}
	for _, x := range p.Privileges {
		for _, n := range kindCalls[x.Kind] {
			names[n] = true
		}
	}
	for _, c := range intent.Capabilities(p) {
		for _, n := range capabilityCalls[c.Name] {
			names[n] = true
		}
	}
	return names
}

func notes(p *profile.Profile, start set) []intent.Note {
	n := []intent.Note{
		{Effect: intent.Advice, About: "seccomp", Text: "ECS has no setting for it in task definitions: give it to the engine of the hosts, dockerd --seccomp-profile FILE, or with docker run --security-opt seccomp=FILE; not on Fargate"},
		{Effect: intent.Wider, Control: profile.ControlFile, Text: "files are not seccomp's: the profiles for AppArmor, SELinux and Landlock hold them"},
		{Effect: intent.Wider, Control: profile.ControlNetwork, Text: "peers and ports are not seccomp's: the profiles for SELinux and Landlock hold ports"},
		{Effect: intent.Wider, Control: profile.ControlExec, Text: "which programs run is not seccomp's: the profiles for AppArmor and Landlock hold them"},
		{Effect: intent.Wider, Control: profile.ControlPrivilege, About: string(event.KindExecProtect), Text: "memory that was written may be made executable: every program needs the call to start"},
		{Effect: intent.Wider, Control: profile.ControlPrivilege, About: "capabilities", Text: "capabilities are not seccomp's: the task definition has them"},
		{Effect: intent.Wider, Control: profile.ControlResource, Text: "limits are not seccomp's: the task definition has them"},
	}
	if len(p.Calls) == 0 {
		return append(n, intent.Note{Effect: intent.Wider, Control: profile.ControlPrivilege, About: "system calls", Text: "the system calls of the group were not learned: it is what Docker permits by itself, without the privileged calls that were not learned"})
	}
	return append(n, intent.Note{Effect: intent.Wider, Control: profile.ControlPrivilege, About: "system calls",
		Text: fmt.Sprintf("%d calls are permitted that were not learned: the engine and programs need them to start; what differs between architectures and libraries alone is permitted together", len(start))})
}

// set is a set of names of calls.
type set map[string]bool

func setOf(words string) set {
	s := set{}
	for w := range strings.FieldsSeq(words) {
		s[w] = true
	}
	return s
}

// widened adds to names what does the same as one of them.
func widened(names set) set {
	out := set{}
	for n := range names {
		out[n] = true
	}
	for _, f := range families {
		all := strings.Fields(f)
		if slices.ContainsFunc(all, func(n string) bool { return names[n] }) {
			for _, n := range all {
				out[n] = true
			}
		}
	}
	return out
}

// take removes names from a set and returns those that were in it.
func take(from set, names []string) (taken []string) {
	for _, n := range names {
		if from[n] {
			taken = append(taken, n)
			delete(from, n)
		}
	}
	return taken
}

func sorted(s set) []string {
	out := make([]string, 0, len(s))
	for n := range s {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
