package learn_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

func TestProfilesAreJoined(t *testing.T) {
	person := profile.Evidence{Source: profile.Person, Comment: "ours"}
	learned := profile.Evidence{Source: profile.Learned, First: start, Last: start, Count: 3, Hosts: []string{"b"}}
	base := &profile.Profile{
		Group: "g", Revision: 4,
		Executables: []profile.Executable{
			{Path: "/bin/any", Origin: event.OriginImage},
			{Path: "/bin/sh", Origin: event.OriginImage, Parents: []profile.Pattern{""}, Users: []uint32{0}, Scripts: []profile.Pattern{"/a.sh"}, Loads: []profile.Pattern{"/a"}},
		},
		Writes:     []profile.File{{Path: "/data/**", Evidence: person}},
		Listens:    []profile.Listen{{Protocol: "tcp", Port: profile.Ports{First: 8000, Last: 8010}}},
		Names:      []profile.Name{{Name: "*.example.com"}},
		Privileges: []profile.Privilege{{Kind: event.KindClone}},
		Limits:     profile.Limits{Processes: 7, Source: profile.Person},
	}
	before := cmp.Diff(nil, base)
	more := &profile.Profile{
		Revision: 9,
		Executables: []profile.Executable{
			{Path: "/bin/any", Origin: event.OriginImage, Parents: []profile.Pattern{"/x"}, Users: []uint32{1}},
			{Path: "/bin/sh", Origin: event.OriginImage, Parents: []profile.Pattern{"/x"}, Users: []uint32{1}, Scripts: []profile.Pattern{"/b.sh"}, Loads: []profile.Pattern{"/b"}},
			{Path: "/bin/sh", Origin: event.OriginWritten},
		},
		Writes:     []profile.File{{Path: "/a", Evidence: learned}, {Path: "/data/x", Evidence: learned}},
		Listens:    []profile.Listen{{Protocol: "tcp", Port: profile.Ports{First: 8001, Last: 8001}}, {Protocol: "udp", Port: profile.Ports{First: 8001, Last: 8001}}},
		Names:      []profile.Name{{Name: "a.example.com"}, {Name: "example.com"}},
		Privileges: []profile.Privilege{{Kind: event.KindClone, Detail: "newns"}, {Kind: event.KindMount, Detail: "proc"}},
		Limits:     profile.Limits{Processes: 99, Source: profile.Learned},
	}
	joined := person
	joined.First, joined.Last, joined.Count, joined.Hosts = start, start, 3, []string{"b"}
	want := &profile.Profile{
		Group: "g", Revision: 4,
		Executables: []profile.Executable{
			{Path: "/bin/any", Origin: event.OriginImage},
			{Path: "/bin/sh", Origin: event.OriginImage, Parents: []profile.Pattern{"", "/x"}, Users: []uint32{0, 1}, Scripts: []profile.Pattern{"/a.sh", "/b.sh"}, Loads: []profile.Pattern{"/a", "/b"}},
			{Path: "/bin/sh", Origin: event.OriginWritten},
		},
		Writes:     []profile.File{{Path: "/a", Evidence: learned}, {Path: "/data/**", Evidence: joined}},
		Listens:    []profile.Listen{{Protocol: "tcp", Port: profile.Ports{First: 8000, Last: 8010}}, {Protocol: "udp", Port: profile.Ports{First: 8001, Last: 8001}}},
		Names:      []profile.Name{{Name: "*.example.com"}, {Name: "example.com"}},
		Privileges: []profile.Privilege{{Kind: event.KindClone}, {Kind: event.KindMount, Detail: "proc"}},
		Limits:     profile.Limits{Processes: 7, Source: profile.Person},
	}
	if diff := cmp.Diff(learn.Merge(base, more), want); diff != "" {
		t.Errorf("joined (-got +want):\n%s", diff)
	}
	if cmp.Diff(nil, base) != before {
		t.Error("joining changes its argument")
	}
}

func TestLargeProfilesAreJoinedQuickly(t *testing.T) {
	a, b := &profile.Profile{}, &profile.Profile{}
	for i := range 4000 {
		a.Writes = append(a.Writes, profile.File{Path: profile.Pattern(fmt.Sprintf("/etc/some/folder/a%d/*", i))})
		b.Writes = append(b.Writes, profile.File{Path: profile.Pattern(fmt.Sprintf("/etc/some/folder/b%d", i))})
	}
	began := time.Now()
	if got := len(learn.Merge(a, b).Writes); got != 8000 {
		t.Errorf("%d entries, want 8000", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("joining took %s", took)
	}
}
