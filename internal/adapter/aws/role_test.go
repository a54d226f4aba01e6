package aws_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
)

const (
	otherRole   = "arn:aws:iam::210987654321:role/castellan-notify"
	otherID     = "case:42"
	otherKey    = "ASIAOTHER"
	otherSecret = "another secret"
)

// accounts is a stand-in of STS and of services behind it, which computes each
// signature anew: STS must be asked by the server itself, the others in the role of
// account 210987654321 or by the server.
type accounts struct {
	t       *testing.T
	service http.Handler

	mu      sync.Mutex
	assumed int
	as      []string // who asked a service
}

func newAccounts(t *testing.T, service http.Handler) (*accounts, string) {
	t.Helper()
	a := &accounts{t: t, service: service}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	everything(t, srv.URL)
	return a, srv.URL
}

func (a *accounts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, rest, _ := strings.Cut(scope, "/")
	if r.Header.Get("X-Amz-Content-Sha256") == "" { // all but S3 sign it without sending it
		sum := sha256.Sum256(body)
		r.Header["X-Amz-Content-Sha256"] = []string{hex.EncodeToString(sum[:])}
		defer r.Header.Del("X-Amz-Content-Sha256")
	}
	secret, signs := "secret-key", r
	if key == otherKey {
		secret = otherSecret
	}
	if !strings.Contains(rest, "/s3/") {
		signs = r.Clone(r.Context())
		signs.Header.Del("X-Amz-Content-Sha256")
	}
	if !signedAs(signs, secret, r.Header.Get("X-Amz-Content-Sha256")) {
		a.t.Errorf("a request of %s to %s is not signed as it should", key, rest)
		http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !strings.Contains(rest, "/sts/") {
		a.as = append(a.as, key)
		r.Body = io.NopCloser(bytes.NewReader(body))
		a.service.ServeHTTP(w, r)
		return
	}
	q, err := url.ParseQuery(string(body))
	w.Header().Set("Content-Type", "text/xml")
	if err != nil || q.Get("Action") != "AssumeRole" || q.Get("RoleArn") != otherRole || q.Get("ExternalId") != otherID || key == otherKey {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`<ErrorResponse><Error><Code>AccessDenied</Code><Message>is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`))
		return
	}
	a.assumed++
	_, _ = w.Write([]byte(`<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>` + otherKey +
		`</AccessKeyId><SecretAccessKey>` + otherSecret + `</SecretAccessKey><SessionToken>t</SessionToken><Expiration>` +
		time.Now().Add(15*time.Minute).UTC().Format(time.RFC3339) + `</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`))
}

func TestTargetsOfOtherAccounts(t *testing.T) {
	taken := &receiver{answer: taking}
	a, _ := newAccounts(t, taken)
	door := targets()
	there := func(k notice.Type, arn string) notice.Destination {
		d := at(k, strings.ReplaceAll(arn, "123456789012", "210987654321"))
		d.Role, d.ExternalID = otherRole, otherID
		return d
	}
	for _, d := range []notice.Destination{
		there(notice.SNS, topicARN), there(notice.EventBridge, busARN), there(notice.CloudWatchLogs, groupARN), there(notice.CloudWatchMetrics, groupARN),
		there(notice.SecurityHub, hubARN), at(notice.SNS, topicARN),
	} {
		if shown, err := door.Check(d); err != nil || shown != d.URL {
			t.Errorf("%s: %q, %v", d.URL, shown, err)
		}
		a.as = nil
		if err := door.Send(t.Context(), d, notification(1)); err != nil {
			t.Errorf("%s: %v", d.Type, err)
		}
		want := otherKey
		if d.Role == "" {
			want = "AKIDEXAMPLE"
		}
		if len(a.as) == 0 {
			t.Errorf("%s was not asked", d.Type)
		}
		for _, as := range a.as {
			if as != want {
				t.Errorf("%s in %s was asked as %s, want %s", d.Type, d.URL, as, want)
			}
		}
	}
	if a.assumed != 1 {
		t.Errorf("took the role %d times, want once for a region", a.assumed)
	}
	wrong := there(notice.SNS, topicARN)
	wrong.ExternalID = "wrong"
	err := door.Send(t.Context(), wrong, notification(1))
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), otherRole) || !strings.Contains(fault.Remedy(err), "external id") {
		t.Errorf("a role that is refused: %v, remedy %q", err, fault.Remedy(err))
	}
	for name, d := range map[string]notice.Destination{
		"a role of another account":    {Type: notice.SNS, URL: topicARN, Settings: notice.Settings{Role: otherRole}},
		"no role":                      {Type: notice.SNS, URL: topicARN, Settings: notice.Settings{Role: "castellan"}},
		"an external id alone":         {Type: notice.SNS, URL: topicARN, Settings: notice.Settings{ExternalID: "x1"}},
		"an external id that is none":  {Type: notice.SNS, URL: strings.ReplaceAll(topicARN, "123456789012", "210987654321"), Settings: notice.Settings{Role: otherRole, ExternalID: "a b"}},
		"a user, whom nobody takes on": {Type: notice.SNS, URL: topicARN, Settings: notice.Settings{Role: "arn:aws:iam::123456789012:user/x"}},
	} {
		if _, err := door.Check(d); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBucketOfAnotherAccount(t *testing.T) {
	body := []byte("an archive")
	var got []byte
	a, address := newAccounts(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		if got, err = io.ReadAll(r.Body); err != nil || r.Header.Get("X-Amz-Expected-Bucket-Owner") != "210987654321" {
			t.Errorf("%v, for a bucket of %s", err, r.Header.Get("X-Amz-Expected-Bucket-Owner"))
		}
	}))
	t.Setenv("AWS_ENDPOINT_URL_S3", address)
	o := aws.BucketOptions{Name: "forensics", Owner: "210987654321", As: aws.AccountRole{Role: otherRole, ExternalID: otherID}, Log: slog.New(slog.DiscardHandler)}
	b, err := aws.NewBucket(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, b, "x.tar.gz", body); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, body) || a.assumed != 1 || strings.Join(a.as, " ") != otherKey {
		t.Errorf("%q was put by %q, with the role taken %d times", got, a.as, a.assumed)
	}
	for name, change := range map[string]func(*aws.BucketOptions){
		"a role of another account than the bucket": func(o *aws.BucketOptions) { o.Owner = "123456789012" },
		"no role": func(o *aws.BucketOptions) { o.As.Role = "" },
	} {
		bad := o
		change(&bad)
		if _, err := aws.NewBucket(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
