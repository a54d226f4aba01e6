package account

import (
	"net/netip"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

var testTime = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func FuzzParsePHC(f *testing.F) {
	f.Add(phc(DefaultHashing(), make([]byte, saltBytes), make([]byte, hashBytes)))
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$AAAA$AAAA")
	f.Add("$argon2i$v=19$m=1,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, salt, sum, err := parsePHC(s)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatalf("got kind %v, want corrupt", fault.Of(err))
			}
			return
		}
		if p.Memory > maxMemory || p.Time > maxTime || p.Threads > maxThreads {
			t.Fatalf("accepted parameters out of bounds: %+v", p)
		}
		if _, s2, h2, err := parsePHC(phc(p, salt, sum)); err != nil || string(s2) != string(salt) || string(h2) != string(sum) {
			t.Fatalf("written again: %v", err)
		}
	})
}

func TestThrottleMemoryIsBounded(t *testing.T) {
	th := newThrottle()
	now := testTime
	for range 10 {
		th.begin(attempt{"name victim", "address a"}, now)
	}
	for i := range 3 * maxTracked {
		th.begin(newAttempt(string(rune('a'+i%26))+string(rune(0x4e00+i)), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()), now)
	}
	if n := len(th.tries); n > maxTracked {
		t.Errorf("got %d tracked, want at most %d", n, maxTracked)
	}
	if th.tries["name victim"] == nil {
		t.Error("a flood of names made the throttle forget the one being guessed")
	}
}
