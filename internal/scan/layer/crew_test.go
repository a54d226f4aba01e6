package layer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/google/go-cmp/cmp"
)

// TestAnalysersDoNotDisturbOneAnother: whatever one does to a file, the other
// gets every file whole.
func TestAnalysersDoNotDisturbOneAnother(t *testing.T) {
	large := "pkg:" + strings.Repeat("x", 300<<10)
	data := archive(t, "file a "+large, "file b pkg:b", "file c "+large)
	type takes = func(context.Context, *analyse.Entry, io.Reader, *analyse.Shown) error
	for _, tc := range []struct {
		name    string
		want    func(*analyse.Entry, []byte) bool
		take    takes
		problem string
	}{
		{name: "reads nothing", take: func(context.Context, *analyse.Entry, io.Reader, *analyse.Shown) error { return nil }},
		{name: "reads a little", take: func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
			_, err := io.ReadFull(r, make([]byte, 3))
			return err
		}},
		{name: "gives up in the middle", problem: "odd: broken", take: func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
			_, err := io.CopyN(io.Discard, r, 100<<10)
			return errors.Join(errBroken, ignoreEOF(err))
		}},
		{name: "panics", problem: "odd: panic: boom", take: func(context.Context, *analyse.Entry, io.Reader, *analyse.Shown) error { panic("boom") }},
		{name: "panics when asked", problem: "odd: panic: boom", want: func(*analyse.Entry, []byte) bool { panic("boom") }},
		{name: "reads beyond the end", take: func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
			for range 3 {
				if _, err := io.Copy(io.Discard, r); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "takes too long", problem: "odd: takes too long: stopped after 1ms", take: func(ctx context.Context, _ *analyse.Entry, _ io.Reader, _ *analyse.Shown) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		{name: "waits for more than there is", problem: "odd: takes too long", take: func(ctx context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
			for ctx.Err() == nil {
				if _, err := r.Read(make([]byte, 1)); err != nil && err != io.EOF {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var limits layer.Limits
			if strings.Contains(tc.problem, "too long") {
				limits.FileTime = time.Millisecond
			}
			other := sizes{}
			r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data),
				layer.Options{Analysers: []analyse.Analyser{odd{"odd", tc.want, tc.take}, other}, Limits: limits})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{"a sizes: 307204", "b sizes: 5", "c sizes: 307204"} {
				if limits.FileTime > 0 {
					break // then the other may be late too, on a busy machine
				}
				if got := listing(r)[i]; !strings.HasSuffix(got, want[1:]) {
					t.Errorf("file %d: %q, want %q", i, got, want)
				}
			}
			if got := strings.Join(listing(r), "\n"); !strings.Contains(got, tc.problem) {
				t.Errorf("files %s, want the problem %q", got, tc.problem)
			}
			if r.Unsettled != (limits.FileTime > 0) {
				t.Errorf("unsettled: %v", r.Unsettled)
			}
		})
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// sizes shows how long each file is.
type sizes struct{}

func (sizes) Name() string                             { return "sizes" }
func (sizes) Wants(e *analyse.Entry, head []byte) bool { return bytes.HasPrefix(head, []byte("pkg:")) }
func (sizes) Take(_ context.Context, _ *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	n, err := io.Copy(io.Discard, r)
	shown.Packages = []inventory.Package{{Name: fmt.Sprint(n)}}
	return err
}

// TestAnAnalyserHasATimeInAScan: none may cost the scan all that it has; when its
// time is spent the others go on, it is said what was left out, and the layer is
// not settled.
func TestAnAnalyserHasATimeInAScan(t *testing.T) {
	const files = 40
	var lines []string
	for i := range files {
		lines = append(lines, fmt.Sprintf("file f%02d pkg:x", i))
	}
	greedy := odd{"greedy", nil, func(_ context.Context, _ *analyse.Entry, _ io.Reader, shown *analyse.Shown) error {
		shown.Packages = []inventory.Package{{Name: "dear"}}
		return nil
	}}
	limits := layer.Limits{AnalyserTime: time.Hour}
	budget := layer.NewBudget(limits)
	read := func() (dear, whole int, unsettled bool) {
		r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(archive(t, lines...)),
			layer.Options{Analysers: []analyse.Analyser{greedy, sizes{}}, Limits: limits, Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range listing(r) {
			dear += strings.Count(l, "greedy: dear")
			whole += strings.Count(l, "sizes: 5")
		}
		return dear, whole, r.Unsettled
	}
	if dear, whole, unsettled := read(); dear != files || whole != files || unsettled || len(budget.Spent()) > 0 {
		t.Errorf("before: %d and %d files, unsettled %v, spent %v", dear, whole, unsettled, budget.Spent())
	}
	budget.SpendAll("greedy")
	for range 2 {
		if dear, whole, unsettled := read(); dear != 0 || whole != files || !unsettled {
			t.Errorf("after: it looked at %d files, the other at %d, unsettled %v", dear, whole, unsettled)
		}
	}
	want := []layer.Spent{{Analyser: "greedy", Time: time.Hour, Files: 2 * files}}
	if d := cmp.Diff(budget.Spent(), want); d != "" {
		t.Errorf("spent (-got +want):\n%s", d)
	}
}

// TestOneThatNeverStopsIsLeftBehind: it neither reads nor heeds its context.
func TestOneThatNeverStopsIsLeftBehind(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	stuck := odd{"stuck", nil, func(_ context.Context, _ *analyse.Entry, _ io.Reader, shown *analyse.Shown) error {
		<-release
		shown.Packages = append(shown.Packages, inventory.Package{Name: "late"})
		return nil
	}}
	var lines []string
	for i := range 20 {
		lines = append(lines, fmt.Sprintf("file f%02d pkg:%d", i, i))
	}
	o := layer.Options{Analysers: []analyse.Analyser{stuck}, Limits: layer.Limits{FileTime: time.Millisecond}}.WithGrace(time.Millisecond)
	r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(archive(t, lines...)), o)
	if err != nil {
		t.Fatal(err)
	}
	got := listing(r)
	if len(got) < 3 || len(got) > 3+4 || got[0] != "f00 stuck: (stuck: does not stop)" || !r.Unsettled {
		t.Errorf("files %q, want it to be asked no more after it was late three times (four files may be in hand)", got)
	}
}

func TestOneFileIsNotReadForEver(t *testing.T) {
	data := archive(t, "file a pkg:"+strings.Repeat("x", 100<<10))
	r, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data),
		layer.Options{Analysers: []analyse.Analyser{sizes{}}, Limits: layer.Limits{FileBytes: 64 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a sizes: 65536 (sizes: file is larger than is read of one)"}
	if diff := cmp.Diff(want, listing(r)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestManyWantOneFile: more analysers than files may be in hand.
func TestManyWantOneFile(t *testing.T) {
	var all []analyse.Analyser
	for i := range 20 {
		all = append(all, echo{name: fmt.Sprintf("a%02d", i)})
	}
	r := read(t, archive(t, "file a pkg:1", "file b pkg:2"), all...)
	if len(r.Files) != 2 || len(r.Files[0].By) != 20 || len(r.Files[1].By) != 20 {
		t.Errorf("files %q, want two with 20 analysers each", listing(r))
	}
}

// TestHeadIsWhatTheFileBeginsWith: in whatever pieces the archive comes.
func TestHeadIsWhatTheFileBeginsWith(t *testing.T) {
	content := strings.Repeat("0123456789", 200)
	for _, size := range []int{0, 1, 511, 512, 513, 2000} {
		data := archive(t, "file before x", "file a "+content[:size])
		for _, piece := range []int{1, 100, 512, 1000, 1 << 20} {
			var head string
			seen := false
			heads := odd{"heads", func(e *analyse.Entry, h []byte) bool {
				if e.Path == "a" {
					head, seen = string(h), h != nil && e.Size == int64(size)
				}
				return e.Path == "a"
			}, func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
				b, err := io.ReadAll(r)
				if string(b) != content[:size] {
					return errBroken
				}
				return err
			}}
			r, err := layer.Read(t.Context(), inventory.Layer{}, pieces{bytes.NewReader(data), piece}, layer.Options{Analysers: []analyse.Analyser{heads}})
			if err != nil {
				t.Fatal(err)
			}
			if want := content[:min(size, analyse.HeadSize)]; head != want || !seen || len(r.Files) > 0 {
				t.Errorf("size %d in pieces of %d: head of %d bytes, want %d; files %q", size, piece, len(head), len(want), listing(r))
			}
		}
	}
}

// pieces reads at most n bytes at once.
type pieces struct {
	r io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// TestSkipping: what is skipped need not come, and what follows it does, to each
// analyser what it asked for.
func TestSkipping(t *testing.T) {
	const size = 1 << 20
	content := make([]byte, size)
	copy(content, "pkg:")
	for i := 4; i < size; i += 4 {
		binary.BigEndian.PutUint32(content[i:], uint32(i))
	}
	data := archive(t, "file a "+string(content), "file b pkg:b")
	for _, tc := range []struct {
		name  string
		skips []int64 // before reading four bytes each time
		want  string
	}{
		{"nothing", []int64{0, 0}, "0 4"},
		{"within a block", []int64{4, 96}, "4 104"},
		{"many blocks", []int64{4, 700_000, 100_000}, "4 700008 800012"},
		{"to the end", []int64{size - 4}, "1048572"},
		{"behind the end", []int64{size}, "EOF"},
		{"farther than any file", []int64{4, 1 << 60}, "4 EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			skipper := odd{"skipper", nil, func(_ context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
				if e.Path != "a" {
					return nil
				}
				var got []string
				for _, n := range tc.skips {
					r.(analyse.Skipper).Skip(n)
					var b [4]byte
					_, err := io.ReadFull(r, b[:])
					at := binary.BigEndian.Uint32(b[:])
					switch {
					case err != nil:
						got = append(got, err.Error())
					case string(b[:]) == "pkg:":
						got = append(got, "0")
					default:
						got = append(got, fmt.Sprint(at))
					}
				}
				shown.Packages = []inventory.Package{{Name: strings.Join(got, " ")}}
				return nil
			}}
			alone, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data), layer.Options{Analysers: []analyse.Analyser{skipper}})
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(alone); len(got) != 1 || !strings.HasSuffix(got[0], "skipper: "+tc.want) {
				t.Errorf("alone: %q, want %q", got, tc.want)
			}
			beside, err := layer.Read(t.Context(), inventory.Layer{}, bytes.NewReader(data), layer.Options{Analysers: []analyse.Analyser{sizes{}, skipper}})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(listing(beside), "\n"); !strings.Contains(got, "skipper: "+tc.want) || !strings.Contains(got, "sizes: 1048576") {
				t.Errorf("beside one that reads all: %s, want %q and the whole size", got, tc.want)
			}
		})
	}
}

// TestSkippingAHole: one that is as large as any costs nothing either.
func TestSkippingAHole(t *testing.T) {
	skipper := odd{"skipper", func(*analyse.Entry, []byte) bool { return true }, func(_ context.Context, _ *analyse.Entry, r io.Reader, _ *analyse.Shown) error {
		r.(analyse.Skipper).Skip(1 << 61)
		_, err := r.Read(make([]byte, 1))
		return err
	}}
	r, err := layer.Read(t.Context(), inventory.Layer{}, hole(t), layer.Options{Analysers: []analyse.Analyser{skipper}})
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(r); len(got) != 1 || !strings.Contains(got[0], "file is larger than is read of one") {
		t.Errorf("files %q, want that it is too large", got)
	}
}
