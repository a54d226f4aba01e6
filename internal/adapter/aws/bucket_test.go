package aws_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
)

// buckets is a stand-in for S3 that believes no request whose signature, digest or
// checksum is not right.
type buckets struct {
	t  *testing.T
	mu sync.Mutex
	// answers are statuses and codes that the next requests get instead.
	answers []string
	asked   []string
	header  http.Header // of what began the last object
	objects map[string][]byte
	parts   map[int][]byte
	aborted int
}

func newBuckets(t *testing.T, o aws.BucketOptions) (*buckets, *aws.Bucket) {
	t.Helper()
	s := &buckets{t: t, objects: map[string][]byte{}, parts: map[int][]byte{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": srv.URL, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
	o.Name, o.Log, o.Pause = "forensics", slog.New(slog.DiscardHandler), time.Millisecond
	b, err := aws.NewBucket(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

func (s *buckets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.asked = append(s.asked, r.Method+" "+r.URL.RawQuery)
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>because\nof it</Message></Error>", code)
	}
	if len(s.answers) > 0 {
		var status int
		var code string
		next := s.answers[0]
		s.answers = s.answers[1:]
		if next != "" {
			if _, err := fmt.Sscanf(next, "%d %s", &status, &code); err != nil {
				s.t.Error(err)
			}
			refuse(status, code)
			return
		}
	}
	sum := sha256.Sum256(body)
	switch {
	case !signedS3(r, "secret"):
		refuse(http.StatusForbidden, "SignatureDoesNotMatch")
		return
	case r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]):
		refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch")
		return
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]):
		refuse(http.StatusBadRequest, "BadDigest")
		return
	case r.Header.Get("X-Amz-Expected-Bucket-Owner") != "" && r.Header.Get("X-Amz-Expected-Bucket-Owner") != "123456789012":
		refuse(http.StatusForbidden, "AccessDenied")
		return
	}
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		s.header = r.Header
		fmt.Fprint(w, `<InitiateMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><UploadId>up+1/=</UploadId></InitiateMultipartUploadResult>`)
	case q.Has("uploadId") && q.Get("uploadId") != "up+1/=":
		refuse(http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut && q.Has("partNumber"):
		var n int
		fmt.Sscan(q.Get("partNumber"), &n)
		s.parts[n] = body
		w.Header().Set("ETag", fmt.Sprintf(`"part-%d"`, n))
	case r.Method == http.MethodPut:
		s.header, s.objects[r.URL.Path] = r.Header, body
	case r.Method == http.MethodDelete:
		s.aborted++
		clear(s.parts)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost:
		var done struct {
			Parts []struct {
				PartNumber           int
				ETag, ChecksumSHA256 string
			} `xml:"Part"`
		}
		if err := xml.Unmarshal(body, &done); err != nil {
			s.t.Error(err)
		}
		var all []byte
		for i, p := range done.Parts {
			sum := sha256.Sum256(s.parts[p.PartNumber])
			if p.PartNumber != i+1 || p.ETag != fmt.Sprintf(`"part-%d"`, i+1) || p.ChecksumSHA256 != base64.StdEncoding.EncodeToString(sum[:]) {
				refuse(http.StatusBadRequest, "InvalidPart")
				return
			}
			all = append(all, s.parts[p.PartNumber]...)
		}
		s.objects[r.URL.Path] = all
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
	}
}

// signedS3 computes the signature of a request as AWS documents it (Signature Version
// 4), with nothing of the SDK.
func signedS3(r *http.Request, secret string) bool {
	return signedAs(r, secret, r.Header.Get("X-Amz-Content-Sha256"))
}

// signedAs is signedS3 for any service, with the digest of the body.
func signedAs(r *http.Request, secret, digest string) bool {
	var scope, signed, signature string
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ", ") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "Credential":
			_, scope, _ = strings.Cut(value, "/")
		case "SignedHeaders":
			signed = value
		case "Signature":
			signature = value
		}
	}
	var canonical strings.Builder
	names := strings.Split(signed, ";")
	for _, name := range names {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		canonical.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	for name := range r.Header { // all of Amazon's must be signed
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(names, name) {
			return false
		}
	}
	query := strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	text := strings.Join([]string{r.Method, r.URL.EscapedPath(), query, canonical.String(), signed, digest}, "\n")
	sum := sha256.Sum256([]byte(text))
	toSign := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(toSign))
	return hex.EncodeToString(m.Sum(nil)) == signature
}

func put(t *testing.T, b *aws.Bucket, key string, body []byte) error {
	t.Helper()
	sum := sha256.Sum256(body)
	return b.Put(t.Context(), key, bytes.NewReader(body), int64(len(body)), hex.EncodeToString(sum[:]))
}

func TestBucketPuts(t *testing.T) {
	small, large := []byte("an archive"), bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	s, b := newBuckets(t, aws.BucketOptions{
		Prefix: "castellan/snap shots/", Owner: "123456789012", Key: "arn:aws:kms:eu-west-1:123456789012:key/k", Lock: "GOVERNANCE", For: 24 * time.Hour,
	})
	for name, body := range map[string][]byte{"2026/11/29/SMALL+1.tar.gz": small, "2026/11/29/LARGE.tar.gz": large} {
		if err := put(t, b, name, body); err != nil {
			t.Fatal(err)
		}
		if got := s.objects["/forensics/castellan/snap shots/"+name]; !bytes.Equal(got, body) {
			t.Errorf("%s has %d bytes, want %d", name, len(got), len(body))
		}
		until, err := time.Parse(time.RFC3339, s.header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil || time.Until(until) < 23*time.Hour || s.header.Get("X-Amz-Object-Lock-Mode") != "GOVERNANCE" ||
			s.header.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || !strings.HasSuffix(s.header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"), "key/k") ||
			s.header.Get("X-Amz-Meta-Sha256") == "" {
			t.Errorf("header %v, %v", s.header, err)
		}
	}
	if want := "s3://forensics/castellan/snap shots/x"; b.Where("x") != want {
		t.Errorf("where: %s", b.Where("x"))
	}
	if err := b.Put(t.Context(), "x", bytes.NewReader(small), int64(len(small)), strings.Repeat("0", 64)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("what has another digest: %v", err)
	}
}

func TestBucketFails(t *testing.T) {
	large := make([]byte, 17<<20)
	for _, c := range []struct {
		name    string
		answers []string
		kind    fault.Kind // none: it got through
		aborted int
		remedy  string
	}{
		{"one fails for a while", []string{"503 SlowDown", "500 InternalError"}, 0, 0, ""},
		{"a part fails for a while", []string{"", "", "503 SlowDown", "503 SlowDown", "503 SlowDown"}, 0, 0, ""},
		{"a part fails", []string{"", "", "503 A", "503 B", "503 C", "503 D"}, fault.Unavailable, 1, "tried again"},
		{"it fails after its status was sent", []string{"", "", "", "", "200 InternalError"}, 0, 0, ""},
		{"it may not", []string{"403 AccessDenied"}, fault.Denied, 0, "s3:PutObject"},
		{"it may not use the key", []string{"400 KMS.DisabledException"}, fault.Denied, 0, "kms:GenerateDataKey"},
		{"no bucket", []string{"404 NoSuchBucket"}, fault.NotFound, 0, "bucket of that name"},
		{"another region", []string{"301 PermanentRedirect"}, fault.Invalid, 0, "region"},
		{"the clock", []string{"403 RequestTimeTooSkewed"}, fault.Unauthenticated, 0, "clock"},
		{"no lock", []string{"400 InvalidRequest"}, fault.Invalid, 0, "Object Lock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, b := newBuckets(t, aws.BucketOptions{})
			s.answers = c.answers
			err := put(t, b, "a", large)
			if c.remedy == "" {
				if err != nil || !bytes.Equal(s.objects["/forensics/a"], large) {
					t.Errorf("%v, asked %q", err, s.asked)
				}
				return
			}
			if !fault.Is(err, c.kind) || !strings.Contains(fault.Remedy(err), c.remedy) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, remedy %q", err, fault.Remedy(err))
			}
			if len(s.objects) != 0 || s.aborted != c.aborted {
				t.Errorf("%d objects, aborted %d times", len(s.objects), s.aborted)
			}
		})
	}
	s, b := newBuckets(t, aws.BucketOptions{Owner: "999999999999"})
	if err := put(t, b, "a", []byte("x")); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Remedy(err), "999999999999") || len(s.objects) != 0 {
		t.Errorf("a bucket of somebody else: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	b, err := aws.NewBucket(aws.BucketOptions{Name: "forensics", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, b, "a", []byte("x")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the stand-in takes a wrong signature: %v", err)
	}
	for _, o := range []aws.BucketOptions{{Name: "A"}, {Name: "abc", Prefix: "a"}, {Name: "abc", Prefix: "/"}, {Name: "abc", Owner: "1"}, {Name: "abc", Key: "k"}, {Name: "abc", Lock: "GOVERNANCE"}} {
		if _, err := aws.NewBucket(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
