package learn_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

// The health check of a container is learned the first time it runs, however slow or
// irregular the host is; the same words in a container without one are a person's.
func TestHealthCheckIsLearnedAtOnce(t *testing.T) {
	words := []string{"/bin/sh", "-c", "curl -fsS http://127.0.0.1/health"}
	for _, tc := range []struct {
		name  string
		check []string
		want  bool
	}{
		{"the container's own", words, true},
		{"of another container", []string{"/bin/sh", "-c", "pg_isready"}, false},
		{"none", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			s.exec("/usr/bin/dash", event.OriginImage, words...).Exec.Entered = true
			curl := s.exec("/usr/bin/curl", event.OriginImage, "curl", "-fsS", "http://127.0.0.1/health")
			curl.Process.Key, curl.Process.Parent = event.Key{PID: 8, Start: 8}, event.Key{PID: 7, Start: 7}
			l := learn.New("prod/shop/web")
			w := &asset.Workload{ID: container, Settings: asset.Settings{HealthCheck: tc.check}}
			for i := range s.events {
				l.Take(&s.events[i], w)
			}
			b, err := l.Save()
			if err != nil {
				t.Fatal(err)
			}
			if l, err = learn.Load(b); err != nil {
				t.Fatal(err)
			}
			has := func(file profile.Pattern) bool {
				return slices.ContainsFunc(l.Profile().Executables, func(x profile.Executable) bool { return x.Path == file })
			}
			if has("/usr/bin/dash") != tc.want || has("/usr/bin/curl") != tc.want {
				t.Errorf("learned: dash %t, curl %t, want %t", has("/usr/bin/dash"), has("/usr/bin/curl"), tc.want)
			}
			named := slices.ContainsFunc(l.Settled(s.at).Waits, func(w string) bool { return strings.Contains(w, "curl") })
			if named == tc.want {
				t.Errorf("told as what came from outside: %t, want %t", named, !tc.want)
			}
		})
	}
}

// A group that is found by a name is learned by both: hosts hear of its new
// containers when they run already, the DNS knows them before.
func TestGroupsAreLearnedByTheirNamesToo(t *testing.T) {
	peer := event.Peer{Kind: event.PeerWorkload, Group: "prod/shop/db"}
	published := event.Peer{Kind: event.PeerWorkload, Group: "prod/shop/db", Port: 5432}
	for _, tc := range []struct {
		name, remote, asked string
		peer                event.Peer
		want                []string
	}{
		{"by a name", "10.0.0.7:5432", "DB.", peer, []string{"group prod/shop/db", "name db"}},
		{"by its address", "10.0.0.7:5432", "", peer, []string{"group prod/shop/db"}},
		{"by a published port", "10.0.0.7:32771", "host-7", published, []string{"group prod/shop/db"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			s.connect(tc.remote, tc.asked).Connection.Peer = tc.peer
			l := learn.New("prod/shop/web")
			l.Take(&s.events[0], nil)
			var got []string
			for _, p := range l.Profile().Peers {
				if p.Port != (profile.Ports{First: 5432, Last: 5432}) {
					t.Errorf("%s is learned at %v", learn.End(p), p.Port)
				}
				got = append(got, learn.End(p))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("learned %q, want %q", got, tc.want)
			}
		})
	}
}

// What a health check does is put beside what the service does, of which nothing is lost:
// folders of which all that is below is one stay that.
func TestHealthCheckLeavesFoldersWhole(t *testing.T) {
	s := newScript()
	for i := range 9 {
		for j := range 9 {
			s.write(fmt.Sprintf("/srv/store/n%c/n%c", 'a'+i, 'a'+j))
		}
	}
	s.write("/srv/**") // a file of that name is not all that is below
	words := []string{"/bin/sh", "-c", "curl -fsS http://127.0.0.1/health"}
	n := len(s.events)
	s.exec("/usr/bin/dash", event.OriginImage, words...).Exec.Entered = true
	l := learn.New("prod/shop/web")
	w := &asset.Workload{ID: container, Settings: asset.Settings{HealthCheck: words}}
	for i := range s.events[:n] {
		l.Take(&s.events[i], w)
	}
	want := paths(l.Profile().Writes)
	l.Take(&s.events[n], w)
	if got := paths(l.Profile().Writes); !slices.Equal(got, want) || !slices.Contains(got, "/srv/store/**") || slices.Contains(got, "/srv/**") {
		t.Errorf("writes %q, without the health check %q", got, want)
	}
}
