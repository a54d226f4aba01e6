package query_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

func TestImages(t *testing.T) {
	for in, want := range map[string]store.ImageQuery{
		"": {},
		"text=shop/web&state=failed&running=true&after=sha256:12&limit=7": {Text: "shop/web", State: store.ScanFailed, Running: true, After: "sha256:12", Limit: 7},
		"running=on": {Running: true},
	} {
		got, err := query.Images(values(t, in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
	for in, names := range map[string]string{"state=dead": "state", "running=perhaps": "running", "limit=1001": "limit", "text=" + strings.Repeat("x", 257): "text"} {
		if _, err := query.Images(values(t, in)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "parameter "+names+":") {
			t.Errorf("%q: got %v, want invalid, naming %s", in, err, names)
		}
	}
}

func TestVulnerabilities(t *testing.T) {
	for in, want := range map[string]store.VulnerabilityQuery{
		"": {},
		"image=sha256:12&id=CVE-1&package=libssl3&severity=High&fixable=1&exploited=1&in-use=1&running=1&accepted=1&text=ssl&offset=200&limit=5": {
			ImageID: "sha256:12", ID: "CVE-1", Package: "libssl3", Severity: finding.High, Fixable: true, Exploited: true, InUse: true,
			Running: true, Accepted: true, Text: "ssl", Offset: 200, Limit: 5,
		},
	} {
		got, err := query.Vulnerabilities(values(t, in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
	for in, names := range map[string]string{
		"severity=awful": "severity", "in-use=perhaps": "in-use", "offset=-1": "offset", "offset=10000001": "offset", "limit=x": "limit",
		"id=%00": "id", "package=" + strings.Repeat("x", 1025): "package",
	} {
		if _, err := query.Vulnerabilities(values(t, in)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "parameter "+names+":") {
			t.Errorf("%q: got %v, want invalid, naming %s", in, err, names)
		}
	}
}

func TestExpiry(t *testing.T) {
	for _, tc := range []struct {
		long, until string
		want        time.Time
	}{
		{"30d", "", now.Add(30 * 24 * time.Hour)},
		{" 12h ", "", now.Add(12 * time.Hour)},
		{"", "2027-01-31", time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)},
		{"", "2027-01-31T12:00:00Z", time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)},
	} {
		got, err := query.Expiry(tc.long, tc.until, now)
		if err != nil || !got.Equal(tc.want) {
			t.Errorf("for %q until %q: got %s, %v, want %s", tc.long, tc.until, got, err, tc.want)
		}
	}
	for _, tc := range []struct{ long, until string }{{"", ""}, {"30d", "2027-01-31"}, {"0s", ""}, {"-1h", ""}, {"soon", ""}, {"", "31.1.2027"}, {"", "2027-02-30"}} {
		if got, err := query.Expiry(tc.long, tc.until, now); !fault.Is(err, fault.Invalid) {
			t.Errorf("for %q until %q: got %s, %v, want invalid", tc.long, tc.until, got, err)
		}
	}
}

func FuzzVulnerabilities(f *testing.F) {
	f.Add("severity=high&in-use=true&offset=100&limit=10&text=openssl")
	f.Add("severity=%00&fixable=maybe&offset=9223372036854775808")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		q, err := query.Vulnerabilities(v)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("got kind %v, want invalid", fault.Of(err))
			}
			return
		}
		if q.Limit < 0 || q.Limit > store.MaxPage || q.Offset < 0 || q.Severity > finding.Critical {
			t.Fatalf("accepted out of bounds: %+v", q)
		}
	})
}

func FuzzExpiry(f *testing.F) {
	f.Add("30d", "")
	f.Add("", "2027-01-31")
	f.Add("", "9999-12-31T23:59:59Z")
	f.Fuzz(func(t *testing.T, long, until string) {
		got, err := query.Expiry(long, until, now)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("got kind %v, want invalid", fault.Of(err))
			}
			return
		}
		if strings.TrimSpace(long) != "" && !got.After(now) {
			t.Fatalf("for %q is %s, which is over", long, got)
		}
	})
}
