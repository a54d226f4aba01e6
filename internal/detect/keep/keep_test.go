package keep_test

import (
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
)

func TestForgetsWhatWasTouchedLongestAgo(t *testing.T) {
	at := time.Unix(1000, 0)
	m := keep.New[string, int](2, time.Minute)
	m.Put("a", 1, at)
	m.Put("b", 2, at)
	if _, ok := m.Get("a", at.Add(time.Second)); !ok {
		t.Fatal("a is not there")
	}
	m.Put("c", 3, at.Add(2*time.Second))
	if _, ok := m.Get("b", at.Add(2*time.Second)); ok || m.Len() != 2 {
		t.Errorf("b is still there, or of two there are %d", m.Len())
	}
	if _, ok := m.Get("a", at.Add(2*time.Minute)); ok {
		t.Error("a is there after its while")
	}
	if k, v, ok := m.Oldest(); !ok || k != "c" || *v != 3 {
		t.Errorf("the oldest is %q, %v", k, ok)
	}
	m.Delete("c")
	if _, _, ok := m.Oldest(); ok || m.Len() != 0 {
		t.Error("something is left")
	}
	m.Put("d", 4, at)
	*m.Put("d", 5, at) = 6
	if v, ok := m.Get("d", at.Add(-time.Hour)); !ok || *v != 6 {
		t.Errorf("got %v of an earlier time", v)
	}
}
