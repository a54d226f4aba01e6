package aws

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/castellan-security/castellan/internal/fault"
)

// emptyHash is the SHA-256 of no bytes, which a GET has as its body.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// S3 fetches objects of Amazon S3 in the region of the environment. It signs its
// requests itself: of all that S3 can, it needs one. It can be used by several
// goroutines.
type S3 struct{ session session }

// NewS3 returns the door. It asks nobody yet.
func NewS3(log *slog.Logger) *S3 { return &S3{session{log: log}} }

// Get returns an object, named as s3://BUCKET/KEY, and its ETag, unless it still
// has the ETag known: then it returns nothing. It is an error of the kind Exhausted
// if it has more than limit bytes. It needs the permission s3:GetObject.
func (s *S3) Get(ctx context.Context, name, known string, limit int64) (b []byte, etag string, err error) {
	what := "read " + name
	rest, ok := strings.CutPrefix(name, "s3://")
	bucket, key, _ := strings.Cut(rest, "/")
	if !ok || key == "" || !isBucket(bucket) {
		return nil, "", fault.New(fault.Invalid, "%s: it is no name of an object", what).With("write s3://BUCKET/KEY")
	}
	config, err := s.session.open(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", what, err)
	}
	credentials, err := config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, "", fault.New(fault.Unauthenticated, "%s: %w", what, oneLine(err))
	}
	ctx, cancel := request(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, objectURL(config.Region, bucket, key), nil)
	if err != nil {
		return nil, "", fault.New(fault.Invalid, "%s: %w", what, err)
	}
	req.Header.Set("X-Amz-Content-Sha256", emptyHash)
	if known != "" {
		req.Header.Set("If-None-Match", known)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }) // as S3 has it
	if err := signer.SignHTTP(ctx, credentials, req, emptyHash, "s3", config.Region, time.Now()); err != nil {
		return nil, "", fmt.Errorf("%s: %w", what, err)
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return nil, "", refused(what, err, "s3:GetObject", "s3")
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, known, nil
	case http.StatusForbidden:
		return nil, "", fault.New(fault.Denied, "%s: %s", what, resp.Status).
			With("permit the role s3:GetObject on it, and kms:Decrypt on its key if it has one of its own; is it there at all?")
	case http.StatusNotFound:
		return nil, "", fault.New(fault.NotFound, "%s: %s", what, resp.Status).With("is there such an object?")
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		return nil, "", fault.New(fault.Invalid, "%s: %s", what, resp.Status).With("is the bucket in the region of the function?")
	default:
		return nil, "", fault.New(fault.Unavailable, "%s: %s", what, resp.Status).With("try again later")
	}
	b, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, "", fault.New(fault.Unavailable, "%s: %w", what, oneLine(err)).With("try again later")
	}
	if int64(len(b)) > limit {
		return nil, "", fault.New(fault.Exhausted, "%s: it has more than %d bytes", what, limit)
	}
	return b, resp.Header.Get("ETag"), nil
}

// isBucket says whether s can be a bucket's name.
func isBucket(s string) bool {
	const least, most = 3, 63
	return len(s) >= least && len(s) <= most && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && s[0] != '.' && !strings.Contains(s, "..")
}

// objectURL is where an object is, in the partition of the region, or at the
// endpoint of the environment.
func objectURL(region, bucket, key string) string {
	var path strings.Builder
	for part := range strings.SplitSeq(key, "/") {
		path.WriteString("/" + strings.ReplaceAll(url.PathEscape(part), "+", "%2B"))
	}
	if e := endpoint("S3"); e != "" {
		return strings.TrimSuffix(e, "/") + "/" + bucket + path.String()
	}
	domain := "amazonaws.com"
	switch {
	case strings.HasPrefix(region, "cn-"):
		domain = "amazonaws.com.cn"
	case strings.HasPrefix(region, "eusc-"):
		domain = "amazonaws.eu"
	}
	// By path, since the certificate of S3 is good for no bucket whose name has dots.
	return "https://s3." + region + "." + domain + "/" + bucket + path.String()
}

// endpoint is what the environment names in place of a service's own, as the SDK
// reads it.
func endpoint(service string) string {
	if os.Getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true" {
		return ""
	}
	if e := os.Getenv("AWS_ENDPOINT_URL_" + service); e != "" {
		return e
	}
	return os.Getenv("AWS_ENDPOINT_URL")
}

// S3Endpoint is what the environment names in place of Amazon S3: empty where AWS
// is AWS.
func S3Endpoint() string { return endpoint("S3") }
