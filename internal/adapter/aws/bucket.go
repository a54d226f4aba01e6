package aws

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// bucketPart is the size of the parts of an upload; what is smaller goes in one
	// request. S3 takes parts from 5 MiB on, and 10,000 of them.
	bucketPart = 8 << 20
	// bucketTries is how often a request is made that S3 or the network failed, with
	// pauses of bucketPause, twice that, and so on.
	bucketTries = 4
	bucketPause = 500 * time.Millisecond
	// bucketWithin bounds one request: a part over a slow line.
	bucketWithin = 2 * time.Minute
	// maxBucketAnswer bounds an answer, which is some hundred bytes of XML.
	maxBucketAnswer = 64 << 10
)

// BucketOptions say where objects are put, and how.
type BucketOptions struct {
	Name   string // of the bucket
	Prefix string // before all keys: empty, or with a slash at its end
	// Region of the bucket; empty: that of the environment.
	Region string
	// Owner is the account that the bucket must be of; empty: whose it is does not
	// matter, were it deleted and made anew by somebody else.
	Owner string
	// Key is the KMS key that objects are encrypted with, its ARN; empty: as the bucket
	// does by default.
	Key string
	// Lock is GOVERNANCE or COMPLIANCE, For how long nobody may delete an object;
	// empty: as the bucket does by default.
	Lock string
	For  time.Duration
	// As is the role that is taken to put objects; zero: as whoever this program is.
	As  AccountRole
	Log *slog.Logger
	// Pause replaces the pause between tries, in tests.
	Pause time.Duration
}

// Bucket puts objects into a bucket of Amazon S3. It signs its requests itself, as S3
// does, with the digest of what they carry. It can be used by several goroutines.
type Bucket struct {
	o       BucketOptions
	session session
	client  http.Client
}

// NewBucket returns the door and asks nobody yet. What can't be a bucket is Invalid.
func NewBucket(o BucketOptions) (*Bucket, error) {
	switch {
	case !isBucket(o.Name):
		return nil, fault.New(fault.Invalid, "%.80q can't be the name of a bucket", o.Name).With("write s3://BUCKET or s3://BUCKET/PREFIX")
	case len(o.Prefix) > 500 || strings.HasPrefix(o.Prefix, "/") || strings.Contains(o.Prefix, "//") || o.Prefix != "" && !strings.HasSuffix(o.Prefix, "/"):
		return nil, fault.New(fault.Invalid, "%.80q can't be before keys of objects", o.Prefix).With("write s3://BUCKET/PREFIX, with single slashes")
	case o.Owner != "" && (len(o.Owner) != 12 || strings.Trim(o.Owner, "0123456789") != ""):
		return nil, fault.New(fault.Invalid, "%.80q is no account", o.Owner).With("write the twelve digits of the account that the bucket is of")
	case o.Key != "" && !strings.HasPrefix(o.Key, "arn:"):
		return nil, fault.New(fault.Invalid, "%.80q is no ARN of a key", o.Key).With("write arn:aws:kms:REGION:ACCOUNT:key/ID")
	case o.Lock != "" && (o.Lock != "GOVERNANCE" && o.Lock != "COMPLIANCE" || o.For <= 0):
		return nil, fault.New(fault.Invalid, "%.80q for %s is no retention", o.Lock, o.For).With("write governance:30 or compliance:365, with days")
	}
	if o.As != (AccountRole{}) {
		account, err := o.As.account()
		if err != nil {
			return nil, err
		}
		if o.Owner != "" && account != o.Owner {
			return nil, fault.New(fault.Invalid, "the role is of account %s, and the bucket of %s", account, o.Owner).With("give a role of the bucket's account")
		}
	}
	o.Pause = cmp.Or(o.Pause, bucketPause)
	return &Bucket{o: o, session: session{log: o.Log, as: o.As}, client: http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // signed for one host alone
	}}, nil
}

// Where is how people name an object.
func (b *Bucket) Where(key string) string { return "s3://" + b.o.Name + "/" + b.o.Prefix + key }

// Put puts an object of a size there, with its SHA-256 in hex, which S3 keeps with it:
// whole or not at all. What is above a few megabytes goes in parts, each of which is
// tried several times; what was sent of an upload that failed is removed. It needs
// s3:PutObject and s3:AbortMultipartUpload, and with a key of KMS kms:GenerateDataKey
// and kms:Decrypt. It can be called again with the same.
func (b *Bucket) Put(ctx context.Context, key string, from io.ReaderAt, size int64, sum string) error {
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size {
		return fault.New(fault.Invalid, "write %s: %.80q is no SHA-256", b.Where(key), sum)
	}
	h := http.Header{"Content-Type": {"application/octet-stream"}, "X-Amz-Meta-Sha256": {sum}}
	if b.o.Key != "" {
		h.Set("X-Amz-Server-Side-Encryption", "aws:kms")
		h.Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", b.o.Key)
	}
	if b.o.Lock != "" {
		h.Set("X-Amz-Object-Lock-Mode", b.o.Lock)
		h.Set("X-Amz-Object-Lock-Retain-Until-Date", time.Now().Add(b.o.For).UTC().Format(time.RFC3339))
	}
	if size <= bucketPart {
		body := make([]byte, size)
		if n, err := from.ReadAt(body, 0); int64(n) != size {
			return fmt.Errorf("write %s: %w", b.Where(key), cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != sum {
			return fault.New(fault.Corrupt, "write %s: what is to be written has another digest than %s", b.Where(key), sum)
		}
		_, _, err := b.ask(ctx, http.MethodPut, key, nil, h, body)
		return err
	}
	return b.putParts(ctx, key, from, size, sum, h)
}

type bucketUpload struct {
	ID string `xml:"UploadId"`
}

type bucketParts struct {
	XMLName xml.Name         `xml:"CompleteMultipartUpload"`
	Space   string           `xml:"xmlns,attr"`
	Parts   []bucketPartDone `xml:"Part"`
}

type bucketPartDone struct {
	Number int    `xml:"PartNumber"`
	ETag   string `xml:"ETag"`
	Sum    string `xml:"ChecksumSHA256"`
}

func (b *Bucket) putParts(ctx context.Context, key string, from io.ReaderAt, size int64, sum string, h http.Header) (err error) {
	h.Set("X-Amz-Checksum-Algorithm", "SHA256")
	_, answer, err := b.ask(ctx, http.MethodPost, key, url.Values{"uploads": {""}}, h, nil)
	if err != nil {
		return err
	}
	var upload bucketUpload
	if err := xml.Unmarshal(answer, &upload); err != nil || upload.ID == "" {
		return fault.New(fault.Unavailable, "write %s: S3 began an upload and did not name it", b.Where(key))
	}
	defer func() {
		if err == nil {
			return
		}
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), bucketWithin)
		defer cancel()
		if _, _, e := b.ask(within, http.MethodDelete, key, url.Values{"uploadId": {upload.ID}}, nil, nil); e != nil && !fault.Is(e, fault.NotFound) {
			err = errors.Join(err, fmt.Errorf("parts of it stay in the bucket until a lifecycle rule removes them: %w", e))
		}
	}()
	whole := sha256.New()
	done := bucketParts{Space: "http://s3.amazonaws.com/doc/2006-03-01/"}
	part := make([]byte, bucketPart)
	for at := int64(0); at < size; at += bucketPart {
		p := part[:min(bucketPart, size-at)]
		if n, err := from.ReadAt(p, at); n != len(p) {
			return fmt.Errorf("write %s: %w", b.Where(key), cmp.Or(err, io.ErrUnexpectedEOF))
		}
		whole.Write(p)
		number := len(done.Parts) + 1
		header, _, err := b.ask(ctx, http.MethodPut, key, url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": {upload.ID}}, nil, p)
		if err != nil {
			return err
		}
		done.Parts = append(done.Parts, bucketPartDone{number, header.Get("ETag"), checksum(p)})
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != sum {
		return fault.New(fault.Corrupt, "write %s: what is to be written has digest %s, not %s", b.Where(key), got, sum)
	}
	body, err := xml.Marshal(done)
	if err != nil {
		return fmt.Errorf("write %s: %w", b.Where(key), err)
	}
	_, _, err = b.ask(ctx, http.MethodPost, key, url.Values{"uploadId": {upload.ID}}, nil, body)
	return err
}

// checksum is how S3 writes the SHA-256 of a body.
func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ask makes a request, again when it fails for a reason that may pass.
func (b *Bucket) ask(ctx context.Context, method, key string, query url.Values, h http.Header, body []byte) (http.Header, []byte, error) {
	what := "write " + b.Where(key)
	config, err := b.session.open(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	for try := 1; ; try++ {
		header, answer, err := b.once(ctx, what, config, method, key, query, h, body)
		if err == nil || try == bucketTries || !fault.Is(err, fault.Unavailable) {
			return header, answer, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, errors.Join(err, ctx.Err())
		case <-time.After(b.o.Pause << (try - 1)):
		}
	}
}

func (b *Bucket) once(ctx context.Context, what string, config sdk.Config, method, key string, query url.Values, h http.Header, body []byte) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketWithin)
	defer cancel()
	credentials, err := config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, nil, fault.New(fault.Unauthenticated, "%s: %w", what, oneLine(err)).With("give the server's task or instance a role")
	}
	region := cmp.Or(b.o.Region, config.Region)
	if region == "" && S3Endpoint() == "" {
		return nil, nil, fault.New(fault.Invalid, "%s: in which region is the bucket?", what).With("set AWS_REGION, or name it beside the bucket")
	}
	address := objectURL(region, b.o.Name, b.o.Prefix+key)
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "%s: %w", what, err)
	}
	for name, values := range h {
		req.Header[name] = values
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if method == http.MethodPut {
		req.Header.Set("X-Amz-Checksum-Sha256", checksum(body))
	}
	if b.o.Owner != "" {
		req.Header.Set("X-Amz-Expected-Bucket-Owner", b.o.Owner)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }) // as S3 has it
	if err := signer.SignHTTP(ctx, credentials, req, hash, "s3", region, time.Now()); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, nil, refused(what, err, "s3:PutObject", "s3")
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBucketAnswer))
	if err != nil {
		return nil, nil, fault.New(fault.Unavailable, "%s: %w", what, oneLine(err)).With("try again later")
	}
	// A completed upload may fail after its status was sent.
	if resp.StatusCode/100 == 2 && !isBucketError(answer) {
		return resp.Header, answer, nil
	}
	return nil, nil, b.refusal(what, resp, answer)
}

type bucketError struct {
	XMLName xml.Name `xml:"Error"`
	Code    string   `xml:"Code"`
	Message string   `xml:"Message"`
}

func isBucketError(answer []byte) bool {
	var e bucketError
	return xml.Unmarshal(answer, &e) == nil
}

// refusal gives what S3 says its kind and remedy.
func (b *Bucket) refusal(what string, resp *http.Response, answer []byte) error {
	var e bucketError
	if err := xml.Unmarshal(answer, &e); err != nil {
		e.Message = "no reason given"
	}
	said := oneLine(fmt.Errorf("%s %s: %s", resp.Status, e.Code, cmp.Or(e.Message, "no reason given")))
	switch {
	case e.Code == "NoSuchBucket":
		return fault.New(fault.NotFound, "%s: %w", what, said).With("is there a bucket of that name in that region?")
	case e.Code == "NoSuchUpload":
		return fault.New(fault.NotFound, "%s: %w", what, said)
	case e.Code == "RequestTimeTooSkewed" || e.Code == "ExpiredToken" || e.Code == "InvalidAccessKeyId" || e.Code == "SignatureDoesNotMatch":
		return fault.New(fault.Unauthenticated, "%s: %w", what, said).With("renew the AWS credentials; is this machine's clock right?")
	case strings.HasPrefix(e.Code, "KMS.") || strings.Contains(e.Message, "kms:"):
		return fault.New(fault.Denied, "%s: %w", what, said).With("permit the role kms:GenerateDataKey and kms:Decrypt on the key, in the role's policy and in the key's")
	case resp.StatusCode == http.StatusForbidden:
		with := "permit the role s3:PutObject and s3:AbortMultipartUpload on it"
		if b.o.Lock != "" {
			with += ", and s3:PutObjectRetention"
		}
		if b.o.Owner != "" {
			with += "; is the bucket of account " + b.o.Owner + "?"
		}
		return fault.New(fault.Denied, "%s: %w", what, said).With(with)
	case e.Code == "BadDigest" || e.Code == "XAmzContentChecksumMismatch" || e.Code == "RequestTimeout" || e.Code == "InternalError" || e.Code == "SlowDown" ||
		resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode/100 == 2:
		return fault.New(fault.Unavailable, "%s: %w", what, said).With("it is tried again")
	case resp.StatusCode/100 == 3 || e.Code == "AuthorizationHeaderMalformed":
		return fault.New(fault.Invalid, "%s: %w", what, said).With("is the bucket in that region?")
	}
	return fault.New(fault.Invalid, "%s: %w", what, said).With("has the bucket Object Lock, if retention is asked for?")
}
