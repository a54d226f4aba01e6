package sigstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

// The pauses between two questions whether the person has signed in (RFC 8628, 3.5).
const (
	devicePause = 5 * time.Second
	slowDown    = 5 * time.Second
	leastPause  = time.Second
	mostPause   = time.Minute
)

// device is where a person goes to sign in (RFC 8628, 3.2).
type device struct {
	Code     string      `json:"device_code"`
	UserCode string      `json:"user_code"`
	Address  string      `json:"verification_uri"`
	Old      string      `json:"verification_url"` // as some wrote it before the RFC
	Complete string      `json:"verification_uri_complete"`
	Expires  json.Number `json:"expires_in"`
	Interval json.Number `json:"interval"`
}

// Device has the person sign in with a browser on any machine, where he types in a
// code (RFC 8628).
func (s *SignIn) Device(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, signInWithin)
	defer cancel()
	p, err := s.discover(ctx)
	if err != nil {
		return "", err
	}
	if p.Device == "" {
		return "", fault.New(fault.Unsupported, "the OIDC issuer %s lets nobody sign in on another machine", clip(s.Issuer)).With("try --oidc browser, or give a token of it: --identity-token FILE")
	}
	pr, err := newProof()
	if err != nil {
		return "", err
	}
	d, err := s.begin(ctx, p, pr)
	if err != nil {
		return "", err
	}
	where := Visit{Address: d.Address, Code: d.UserCode}
	if d.Complete != "" {
		where.Address = d.Complete // the code is shown there, for the person to compare
	}
	s.Tell(where)
	form := url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {d.Code}, "client_id": {s.client()}, "code_verifier": {pr.verifier},
	}
	token, err := s.poll(ctx, p, form, d)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", late()
	}
	return token, err
}

// begin asks for a code.
func (s *SignIn) begin(ctx context.Context, p provider, pr proof) (device, error) {
	var d device
	status, b, err := s.do(ctx, http.MethodPost, p.Device, url.Values{
		"client_id": {s.client()}, "scope": {scopes}, "code_challenge": {pr.challenge}, "code_challenge_method": {"S256"},
	})
	if err == nil && status != http.StatusOK {
		var r refusalOIDC
		if err = fmt.Errorf("it answers %d", status); json.Unmarshal(b, &r) == nil && r.Code != "" {
			err = &r
		}
	}
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		return d, fault.New(fault.Unavailable, "begin to sign in at %s: %w", clip(s.Issuer), err).With("is " + s.client() + " the client's name there (--oidc-client)?")
	}
	if d.Address == "" {
		d.Address = d.Old
	}
	for _, each := range []string{d.Address, d.Complete} {
		if u, err := url.Parse(each); each != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil) {
			return d, fault.New(fault.Invalid, "the OIDC issuer %s sends us to %q", clip(s.Issuer), clip(each)).With("give a token of it: --identity-token FILE")
		}
	}
	if d.Code == "" || d.UserCode == "" || d.Address == "" || len(d.Code) > maxCode || len(d.UserCode) > maxCode {
		return d, fault.New(fault.Invalid, "the OIDC issuer %s gives no code to sign in with", clip(s.Issuer)).With("try --oidc browser")
	}
	return d, nil
}

// poll asks until the person has signed in.
func (s *SignIn) poll(ctx context.Context, p provider, form url.Values, d device) (string, error) {
	if n, err := d.Expires.Int64(); err == nil && n > 0 && n < int64(signInWithin/time.Second) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(n)*time.Second)
		defer cancel()
	}
	pause := devicePause
	if n, err := d.Interval.Int64(); err == nil && n > 0 {
		pause = min(max(time.Duration(min(n, 3600))*time.Second, leastPause), mostPause)
	}
	wait := s.wait
	if wait == nil {
		wait = sleep
	}
	for {
		if err := wait(ctx, pause); err != nil {
			return "", err
		}
		token, err := s.redeem(ctx, p, form, "")
		var said *refusalOIDC
		switch {
		case err == nil:
			return token, nil
		case fault.Is(err, fault.Unavailable) && ctx.Err() == nil: // RFC 8628: a pause, and once more
			pause = min(2*pause, mostPause)
		case !errors.As(err, &said):
			return "", err
		case said.Code == "authorization_pending":
		case said.Code == "slow_down":
			pause = min(pause+slowDown, mostPause)
		case said.Code == "expired_token":
			return "", late()
		default:
			return "", fault.New(fault.Denied, "sign in at %s: %w", clip(s.Issuer), said).With("sign in again")
		}
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if !pace.Wait(ctx, d) {
		return ctx.Err()
	}
	return nil
}
