package learn_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

func TestLimitsFromWhatIsUsed(t *testing.T) {
	l := learn.New("g")
	before := asset.Sample{}
	for i := range 60 {
		if got := l.Profile().Limits; got != (profile.Limits{}) {
			t.Fatalf("%d samples give %+v", i, got)
		}
		s := asset.Sample{WorkloadID: "a", Time: start.Add(time.Duration(i) * time.Second), Pids: 30, Memory: 300 << 20, Descriptors: 10,
			CPU: time.Duration(i) * 500 * time.Millisecond, DiskWritten: uint64(i) * (9 << 20)}
		if i == 30 {
			s.Pids = 40
		}
		l.Usage(s, before)
		before = s
	}
	l.Connections(50)
	want := profile.Limits{Processes: 256, Memory: 2 << 30, CPU: 2048, Descriptors: 1024, WriteBytes: 64 << 20, NewConnections: 256, Source: profile.Learned}
	if diff := cmp.Diff(l.Profile().Limits, want); diff != "" {
		t.Errorf("limits (-got +want):\n%s", diff)
	}
}
