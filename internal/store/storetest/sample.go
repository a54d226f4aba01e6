package storetest

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func sample(workload string, at time.Time) asset.Sample {
	return asset.Sample{WorkloadID: workload, Time: at, Memory: uint64(at.Unix()), Pids: 3}
}

// sampled stores n samples of w1, apart from each other.
func (k *kit) sampled(n int, apart time.Duration) {
	k.Helper()
	samples := make([]asset.Sample, n)
	for i := range samples {
		samples[i] = sample("w1", base().Add(time.Duration(i)*apart))
	}
	k.ok(k.st.PutSamples(k.ctx, samples))
}

// samples returns the times, since base, of those of w1.
func (k *kit) samples(since, until, step time.Duration) []time.Duration {
	k.Helper()
	got, err := k.st.Samples(k.ctx, "w1", base().Add(since), base().Add(until), step)
	k.ok(err)
	var at []time.Duration
	for _, v := range got {
		same(k, "sample", v, sample("w1", v.Time))
		at = append(at, v.Time.Sub(base()))
	}
	return at
}

func sampleCases() []testCase {
	const s, m = time.Second, time.Minute
	return []testCase{
		{"every field comes back", func(k *kit) {
			want := filled[asset.Sample](k)
			k.ok(k.st.PutSamples(k.ctx, []asset.Sample{want}))
			got, err := k.st.Samples(k.ctx, want.WorkloadID, want.Time, want.Time.Add(1), 0)
			k.ok(err)
			same(k, "samples", got, []asset.Sample{want})
		}},
		{"nothing is nothing", func(k *kit) {
			k.ok(k.st.PutSamples(k.ctx, nil))
			same(k, "samples", len(k.samples(0, time.Hour, 0)), 0)
		}},
		{"one that is stored is replaced", func(k *kit) {
			k.sampled(3, s)
			k.sampled(3, s)
			changed := sample("w1", base())
			changed.Memory = 1
			k.ok(k.st.PutSamples(k.ctx, []asset.Sample{changed}))
			got, err := k.st.Samples(k.ctx, "w1", base(), base().Add(m), 0)
			k.ok(err)
			same(k, "samples", len(got), 3)
			same(k, "the first", got[0], changed)
		}},
		{"of one workload, since inclusive, until exclusive", func(k *kit) {
			k.sampled(10, s)
			k.ok(k.st.PutSamples(k.ctx, []asset.Sample{sample("w2", base().Add(3*s)), sample("", base().Add(3*s))}))
			same(k, "times", k.samples(3*s, 6*s, 0), []time.Duration{3 * s, 4 * s, 5 * s})
		}},
		{"the last of each step", func(k *kit) {
			k.sampled(100, 7*s)
			same(k, "times", k.samples(0, 4*m, m), []time.Duration{56 * s, 119 * s, 175 * s, 238 * s})
			same(k, "of a part of a step", k.samples(30*s, 130*s, m), []time.Duration{56 * s, 119 * s, 126 * s})
			same(k, "of gaps", k.samples(0, m, s), []time.Duration{0, 7 * s, 14 * s, 21 * s, 28 * s, 35 * s, 42 * s, 49 * s, 56 * s})
		}},
		{"at most so many, the newest", func(k *kit) {
			k.sampled(store.MaxSamples+50, s)
			for _, step := range []time.Duration{0, s} {
				got := k.samples(0, 10*time.Hour, step)
				same(k, "samples", len(got), store.MaxSamples)
				same(k, "first", got[0], 50*s)
			}
		}},
		{"too much text is refused", func(k *kit) {
			v := sample("w1", base())
			v.Missing = []string{strings.Repeat("x", 100_000)}
			k.wantFault(k.st.PutSamples(k.ctx, []asset.Sample{v}), fault.Invalid)
		}},
		{"by age", func(k *kit) {
			k.sampled(10, m)
			_, err := k.st.Prune(k.ctx, store.Retention{Events: time.Hour}, base().Add(time.Hour+4*m))
			k.ok(err)
			same(k, "times", k.samples(0, time.Hour, 0), []time.Duration{4 * m, 5 * m, 6 * m, 7 * m, 8 * m, 9 * m})
		}},
		{"of a clock that is far ahead", func(k *kit) {
			k.ok(k.st.PutSamples(k.ctx, []asset.Sample{sample("w1", base().AddDate(70, 0, 0)), sample("w1", base().Add(time.Hour))}))
			_, err := k.st.Prune(k.ctx, store.Retention{}, base())
			k.ok(err)
			got, err := k.st.Samples(k.ctx, "w1", base(), base().AddDate(100, 0, 0), 0)
			k.ok(err)
			same(k, "left", got, []asset.Sample{sample("w1", base().Add(time.Hour))})
		}},
		{"old ones are thinned out", thinnedOut},
	}
}

// thinnedOut: of more than a day ago one in five minutes is left, the last;
// what comes late is treated alike.
func thinnedOut(k *kit) {
	const s, m, day = time.Second, time.Minute, 24 * time.Hour
	k.sampled(2*60*6, 10*s) // two hours
	k.ok(k.st.PutSamples(k.ctx, []asset.Sample{sample("w2", base()), sample("w2", base().Add(s))}))
	for range 2 {
		_, err := k.st.Prune(k.ctx, store.Retention{}, base().Add(day+61*m))
		k.ok(err)
	}
	old := k.samples(0, time.Hour, 0)
	same(k, "old ones", len(old), 12)
	same(k, "the first two", old[:2], []time.Duration{5*m - 10*s, 10*m - 10*s})
	same(k, "younger ones", len(k.samples(time.Hour, 2*time.Hour, 0)), 60*6)
	got, err := k.st.Samples(k.ctx, "w2", base(), base().Add(day), 0)
	k.ok(err)
	same(k, "another workload", got, []asset.Sample{sample("w2", base().Add(s))})

	k.ok(k.st.PutSamples(k.ctx, []asset.Sample{sample("w1", base().Add(m)), sample("w1", base().Add(5*m-s))}))
	_, err = k.st.Prune(k.ctx, store.Retention{}, base().Add(day+61*m))
	k.ok(err)
	same(k, "after some came late", k.samples(0, 6*m, 0), []time.Duration{5*m - s})
}
