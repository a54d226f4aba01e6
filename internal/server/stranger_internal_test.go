package server

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"
)

func TestStrangersAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newStrangers(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	wrong := errors.New("wrong")
	for i := range 3 * maxStrangers {
		if err := s.refused("hub", fmt.Sprintf("10.%d.%d.1", i/250, i%250), wrong); !errors.Is(err, wrong) {
			t.Fatalf("the first wrong token of an origin: got %v", err)
		}
	}
	if len(s.of) > maxStrangers || s.total.Load() != 3*maxStrangers {
		t.Errorf("%d origins are remembered, %d counted", len(s.of), s.total.Load())
	}
	for range 2 * freeStrangers {
		_ = s.refused("hub", "2001:db8::1", wrong)
	}
	if err := s.refused("hub", "2001:db8::2", wrong); errors.Is(err, wrong) {
		t.Error("another address of the same subscriber need not wait")
	}
	now = now.Add(2 * time.Hour)
	if err := s.refused("hub", "2001:db8::1", wrong); !errors.Is(err, wrong) {
		t.Errorf("an hour later: got %v", err)
	}
}
