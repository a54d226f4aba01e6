package notify

import (
	"errors"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

func TestAfter(t *testing.T) {
	created := time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC)
	away := errors.New("away")
	busy := func(d time.Duration) error { return &notice.Busy{After: d, Err: away} }
	for _, tc := range []struct {
		name  string
		tries int // before
		age   time.Duration
		err   error
		want  time.Duration // 0: given up
	}{
		{"first", 0, time.Second, away, 15 * time.Second},
		{"second", 1, time.Minute, away, 30 * time.Second},
		{"eighth", 7, time.Hour, away, 32 * time.Minute},
		{"ninth", 8, time.Hour, away, time.Hour},
		{"many", 60, 50 * time.Hour, away, time.Hour},
		{"busy for longer", 0, time.Second, busy(10 * time.Minute), 10 * time.Minute},
		{"busy for less", 8, time.Second, busy(time.Minute), time.Hour},
		{"busy for days", 0, time.Second, busy(100 * time.Hour), time.Hour},
		{"the last that fits", 60, 71*time.Hour - time.Second, away, time.Hour},
		{"too old", 60, 71 * time.Hour, away, 0},
		{"too often", 99, time.Hour, away, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := created.Add(tc.age)
			got := after(&store.Delivery{Created: created, Tries: tc.tries}, tc.err, now, firstPause)
			want := time.Time{}
			if tc.want > 0 {
				want = now.Add(tc.want)
			}
			if !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestFoldAt(t *testing.T) {
	at := time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name           string
		oldest, newest time.Duration
		folded         time.Duration // after at; 0: never
		want           time.Duration
	}{
		{"one", 0, 0, 0, 15 * time.Second},
		{"more come", 0, time.Minute, 0, 75 * time.Second},
		{"more come without end", 0, 10 * time.Minute, 0, 5 * time.Minute},
		{"within the interval", 0, 0, -time.Minute, 14 * time.Minute},
		{"after the interval", 0, 0, -time.Hour, 15 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := notice.Target{Interval: 15 * time.Minute}
			if tc.folded != 0 {
				x.State.Folded = at.Add(tc.folded)
			}
			got := foldAt(&x, store.NoticeLine{Oldest: at.Add(tc.oldest), Newest: at.Add(tc.newest)}, settle)
			if want := at.Add(tc.want); !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
