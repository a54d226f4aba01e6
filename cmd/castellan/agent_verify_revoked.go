package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxRevocationAsks bounds how often AWS Signer is asked of one image: an image
	// has one of its signatures, or a few, whatever strangers attach to it.
	maxRevocationAsks = 10
	// maxRevocationAsk bounds one question: the certificates of a chain have some two
	// kilobytes each.
	maxRevocationAsk = 64 << 10
	// maxRevocationAnswer bounds what comes back: ARNs and digests.
	maxRevocationAnswer = 64 << 10
)

// revokedByAWS asks AWS Signer what it revoked; see aws.Revocations.Revoked.
type revokedByAWS func(context.Context, aws.Revocable) ([]string, error)

// revocationAsk is what a child wants to know of AWS Signer.
type revocationAsk struct {
	Profile string
	Job     string
	Chain   [][]byte // what is signed of each certificate: that is all that is asked about
	At      time.Time
}

// revocationAnswer says what was revoked, or why nobody knows.
type revocationAnswer struct {
	Revoked []string
	Error   string
}

// revocationDesk asks AWS Signer for the child of one image. When it could not be
// asked once, it is not asked again: what is not known is told as such, and no
// image waits for it a hundred times.
type revocationDesk struct {
	ask revokedByAWS
	log *slog.Logger

	mu    sync.Mutex
	asked int
	err   error
}

func (d *revocationDesk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var a revocationAnswer
	var err error
	if a.Revoked, err = d.answer(w, r); err != nil {
		a.Error = err.Error()
	}
	// A child that is gone needs no answer.
	_ = json.NewEncoder(w).Encode(a)
}

func (d *revocationDesk) answer(w http.ResponseWriter, r *http.Request) ([]string, error) {
	var q revocationAsk
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRevocationAsk)).Decode(&q); err != nil {
		return nil, fmt.Errorf("read question about revocation: %w", err)
	}
	d.mu.Lock() // also while it is asked: one after the other
	defer d.mu.Unlock()
	switch d.asked++; {
	case d.err != nil:
		return nil, d.err
	case d.ask == nil:
		return nil, fault.New(fault.Unsupported, "AWS Signer is not asked")
	case d.asked > maxRevocationAsks:
		return nil, fault.New(fault.Exhausted, "AWS Signer is asked of %d signatures of an image at most", maxRevocationAsks)
	}
	v := aws.Revocable{Profile: q.Profile, Job: q.Job, At: q.At}
	for _, tbs := range q.Chain {
		// Strangers' certificates are not read here.
		v.Chain = append(v.Chain, &x509.Certificate{RawTBSCertificate: tbs})
	}
	revoked, err := d.ask(r.Context(), v)
	if err != nil && r.Context().Err() == nil {
		d.err = err
		d.log.Warn("AWS Signer not asked what was revoked", "error", err, "remedy", fault.Remedy(err))
	}
	return revoked, err
}

// revoked is the child's notary.AWSRevocations.
func (l *lentSignatures) revoked(ctx context.Context, s notary.AWSSignature) ([]string, error) {
	q := revocationAsk{Profile: s.Profile, Job: s.Job, At: s.At}
	for _, c := range s.Chain {
		q.Chain = append(q.Chain, c.RawTBSCertificate)
	}
	b, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask about revocation: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/revoked", bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	res, err := l.client.Do(r)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "ask about revocation: %w", err)
	}
	defer res.Body.Close()
	var a revocationAnswer
	if err := json.NewDecoder(io.LimitReader(res.Body, maxRevocationAnswer)).Decode(&a); err != nil {
		return nil, fmt.Errorf("read the answer about revocation: %w", err)
	}
	if a.Error != "" {
		return nil, fault.New(fault.Unavailable, "%s", a.Error)
	}
	return a.Revoked, nil
}
