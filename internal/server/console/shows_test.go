package console_test

import (
	"strings"
	"testing"
)

// TestListsAreMadeOnceForAllWhoFollow: what a change costs does not grow with
// who looks.
func TestListsAreMadeOnceForAllWhoFollow(t *testing.T) {
	for path, reads := range map[string]int{"/vulnerabilities/live?severity=high": 1, "/images/live?running=true": 2} {
		t.Run(path, func(t *testing.T) {
			h := shopHouse(t)
			const browsers = 8
			var streams []<-chan message
			for range browsers {
				s := h.follow(t, path, "")
				if m := next(t, s); m.name != "part" || !strings.Contains(m.data, "CVE-2024-21538") && !strings.Contains(m.data, storefrontImage) {
					t.Fatalf("got %q: %.200s", m.name, m.data)
				}
				streams = append(streams, s)
			}
			h.store.mu.Lock()
			for i := range h.store.shop.Images {
				h.store.shop.Images[i].Findings = nil
			}
			before := h.store.asked
			h.store.mu.Unlock()
			h.images.touch()
			for _, s := range streams {
				if m := next(t, s); strings.Contains(m.data, "CVE-2024-21538") {
					t.Errorf("not sent anew: %.200s", m.data)
				}
			}
			h.store.mu.Lock()
			defer h.store.mu.Unlock()
			if got := h.store.asked - before; got != reads {
				t.Errorf("%d browsers had the store asked %d times, want %d", browsers, got, reads)
			}
		})
	}
}

// TestShowsEndWithWhoFollows: nothing is made when nobody looks, and it begins
// anew when somebody does.
func TestShowsEndWithWhoFollows(t *testing.T) {
	h := shopHouse(t)
	for range 3 {
		t.Run("one", func(t *testing.T) {
			if m := next(t, h.follow(t, "/vulnerabilities/live", "")); m.name != "part" {
				t.Errorf("got %q", m.name)
			}
		})
	}
	h.store.mu.Lock()
	before := h.store.asked
	h.store.mu.Unlock()
	h.images.touch()
	h.shows(t, "viewer", "/account", "Account")
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	if got := h.store.asked - before; got != 0 {
		t.Errorf("with nobody there the store was asked %d times", got)
	}
}
