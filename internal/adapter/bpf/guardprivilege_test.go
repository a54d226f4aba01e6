package bpf_test

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Who makes a privileged call that its profile does not have is killed at it, where the
// kernel does not refuse it; what is only looked at is done.
func TestPrivilegeGuardHoldsCalls(t *testing.T) {
	g := guardOf(t, pins(t), bpf.OpenPrivilegeGuard)
	attempt := func(calls string) (id string, stopped bool) {
		id = newID(t)
		check(t, g.Hold(id, netGroup))
		_, code := ran(t, id, "exec=/bin/tool", "tool", "calls="+calls, "exit=3")
		return id, code != 3
	}
	for _, tc := range []struct {
		calls   string
		has     []event.Kind // without the one that is missing
		missing event.Kind
	}{
		{"mounts:/volume", []event.Kind{event.KindMount, event.KindPivotRoot}, event.KindUmount},
		{"mounts:/volume", []event.Kind{event.KindUmount, event.KindPivotRoot}, event.KindMount},
		{"mounts:/volume", []event.Kind{event.KindUmount, event.KindMount}, event.KindPivotRoot},
		{"mounting:/volume", []event.Kind{event.KindUmount}, event.KindMount},
		{"cgroup", []event.Kind{event.KindUmount}, event.KindClone},
		{"clock:adjtimex", []event.Kind{event.KindUmount}, event.KindKernelKnob},
		{"clock:clock_adjtime", []event.Kind{event.KindUmount}, event.KindKernelKnob},
		{"tree", []event.Kind{event.KindUmount}, event.KindMount},
		{"wide:/volume", []event.Kind{event.KindUmount, event.KindPtrace}, event.KindMount},
	} {
		tc.has = append(tc.has, event.KindBPF) // this test program begins with it
		check(t, g.Set(privilegeRules(profile.Deny, tc.has...)))
		id, stopped := attempt(tc.calls)
		if !stopped {
			t.Errorf("%s without %s: not stopped", tc.calls, tc.missing)
		}
		e := g.await(tc.calls, func(e event.Event) bool { return e.WorkloadID == id })
		if e.Reaction == event.ReactionAudited || e.Kind != tc.missing || e.Privilege == nil || e.Privilege.Call == "" {
			t.Errorf("%s without %s: told as %+v %+v", tc.calls, tc.missing, e, e.Privilege)
		}
		check(t, g.Set(privilegeRules(profile.Deny, append(tc.has, tc.missing)...)))
		if _, stopped := attempt(tc.calls); stopped {
			t.Errorf("%s, which the profile has: stopped", tc.calls)
		}
		check(t, g.Set(privilegeRules(profile.Audit, tc.has...)))
		id, stopped = attempt(tc.calls)
		if stopped {
			t.Errorf("%s, looked at only: stopped", tc.calls)
		}
		g.await(tc.calls, func(e event.Event) bool {
			return e.WorkloadID == id && e.Kind == tc.missing && e.Reaction == event.ReactionAudited
		})
	}
	if held := g.Controls(privilegeRules(profile.Deny).Answers)[0]; held.Control != profile.ControlPrivilege || held.Answer != profile.Deny || held.Rung == "" {
		t.Errorf("held as %+v", held)
	}
}

// privilegeRules are rules with all capabilities and some kinds of privileged calls.
func privilegeRules(a profile.Answer, kinds ...event.Kind) profile.Rules {
	r := execRules(profile.Off, profile.ExecRules{})
	r.Answers[profile.ControlPrivilege] = a
	r.Privilege = profile.PrivilegeRules{Capabilities: 1<<41 - 1, Kinds: kinds}
	return r
}

// Who is killed as it begins to write into another process has not written: the kernel
// looks for a fatal signal before each page (__get_user_pages of mm/gup.c).
func TestPrivilegeGuardKillsBeforeMemoryIsWritten(t *testing.T) {
	g := guardOf(t, pins(t), bpf.OpenPrivilegeGuard)
	word := new(atomic.Uint64)
	var where runtime.Pinner
	where.Pin(word)
	defer where.Unpin()
	reaches := func(kinds ...event.Kind) (id string, written bool) {
		check(t, g.Set(privilegeRules(profile.Deny, append(kinds, event.KindUmount, event.KindBPF)...)))
		id = newID(t)
		check(t, g.Hold(id, netGroup))
		word.Store(0)
		ran(t, id, "exec=/bin/tool", "tool", fmt.Sprintf("calls=reach:%d:%x", os.Getpid(), uintptr(unsafe.Pointer(word))), "exit=3")
		return id, word.Load() == reached
	}
	id, written := reaches()
	if written {
		t.Error("it was written")
	}
	g.await("its call", func(e event.Event) bool { return e.WorkloadID == id && e.Kind == event.KindProcessWrite })
	if _, written := reaches(event.KindProcessWrite); !written {
		t.Error("it was not written, though the profile has it")
	}
}

// A kernel without security hooks for BPF says that it does not hold files.
func TestFileGuardSaysWhereItCant(t *testing.T) {
	g := guardOf(t, pins(t), bpf.OpenFileGuard)
	r := execRules(profile.Off, profile.ExecRules{})
	r.Answers[profile.ControlFile] = profile.Deny
	check(t, g.Set(r))
	held := g.Controls(r.Answers)[0]
	if held.Control != profile.ControlFile || (held.Answer == profile.Deny) != (held.Rung != "" && held.Error == "") || held.Answer == profile.Off && held.Error == "" {
		t.Errorf("held as %+v", held)
	}
}
