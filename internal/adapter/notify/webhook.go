package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
)

// SignatureHeader carries what Sign returns.
const SignatureHeader = "Castellan-Signature"

const (
	// maxAnswer is how much of an answer is read, so that the connection ends
	// well; nothing of it is needed.
	maxAnswer = 64 << 10
	// maxAfter bounds what a target may ask for with Retry-After.
	maxAfter = time.Hour
)

// Sign returns the value of SignatureHeader for a body that is sent at a time:
// "t=" and the time in seconds since 1970, "v1=" and the HMAC-SHA256 under the
// secret of that time, a full stop and the body, in hex.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(t + "."))
	m.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(m.Sum(nil))
}

// saying is what is known of the words of an answer. Of others than these nothing
// is told: they may be of somebody whom only this server can ask.
type saying struct {
	// told is what may be told of an answer that is none of success.
	told *regexp.Regexp
	// failed begins an answer whose status says success, and which is none.
	failed string
}

var (
	quiet saying
	// slackSays is a word, when Slack does not take a message.
	slackSays = saying{told: regexp.MustCompile(`^[a-z_]{1,40}$`)}
	// teamsSays is what connectors of Teams answer with the status of success when
	// the channel did not take the message.
	teamsSays = saying{failed: "Webhook message delivery failed"}
)

// post sends a body over a connection of its own.
func (s *Sender) post(ctx context.Context, u *url.URL, config *tls.Config, body []byte, header http.Header, says saying) error {
	transport := &http.Transport{
		DialContext: dialer(u).DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true,
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
		// No proxy: it would be the proxy's address that is looked at.
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return fault.New(fault.Invalid, "url: no request can be made of it")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.agent)
	resp, err := client.Do(req)
	if err != nil {
		return unreachable(u, err)
	}
	defer resp.Body.Close()
	// What it says does not matter, but it is to be able to say it.
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		return answered(u, resp, said, says, header.Get(SignatureHeader) != "")
	}
	if says.failed != "" && strings.HasPrefix(string(said), says.failed) {
		return fault.New(fault.Unavailable, "%s answered that it could not deliver the message", u.Host).With("see that the channel and its workflow are still there")
	}
	return nil
}

// answered makes an error of an answer that is none of success, to what was signed or
// not.
func answered(u *url.URL, resp *http.Response, said []byte, says saying, signed bool) error {
	what := strconv.Itoa(resp.StatusCode)
	if text := http.StatusText(resp.StatusCode); text != "" {
		what += " " + text
	}
	if says.told != nil && says.told.Match(said) {
		what += ", " + string(said)
	}
	remedy := "look at the target's own log"
	switch code := resp.StatusCode; {
	case code/100 == 3:
		remedy = "redirects are not followed: give the target the address that it moved to (castellan notify edit NAME --url)"
	case signed && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		remedy = "does the receiver know this target's secret, and is its clock right? castellan notify edit NAME --new-secret makes another"
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusGone:
		remedy = "see that the target's address is still the right one; another is given with castellan notify edit NAME --url"
	case code == http.StatusTooManyRequests:
		remedy = "it is told too often: narrow the target's filter, or leave it more time (castellan notify edit NAME --every 1h)"
	case code == http.StatusRequestEntityTooLarge:
		remedy = "narrow the target's filter, or let it take larger requests"
	}
	var err error = fault.New(fault.Unavailable, "%s answered %s", u.Host, what).With(remedy)
	if after := retryAfter(resp.Header.Get("Retry-After")); after > 0 {
		return &notice.Busy{After: after, Err: err}
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		err = &notice.Refused{Err: err} // it was read, and is not wanted as it is
	}
	return err
}

func retryAfter(value string) time.Duration {
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		return 0
	}
	return min(time.Duration(min(n, int(maxAfter/time.Second)))*time.Second, maxAfter)
}

// marshalError is of a form that can't be written, which is a mistake of ours.
func marshalError(err error) error { return fmt.Errorf("write notification: %w", err) }
