package notarytest

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Responder is an OCSP responder for the certificates of an issuer.
type Responder struct {
	Issuer *Holder
	By     *Holder // who answers; nil: the issuer itself
	Clock  func() time.Time
	Edit   func(*ocsp.Response) // may change what is signed; nil: it is good
	Raw    []byte               // is answered instead

	mu    sync.Mutex
	asked int
}

// Asked is how often it was asked.
func (r *Responder) Asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// Answer makes an answer about a serial number.
func (r *Responder) Answer(req *ocsp.Request) ([]byte, error) {
	now := r.Clock()
	by := r.By
	said := ocsp.Response{Status: ocsp.Good, SerialNumber: req.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), IssuerHash: req.HashAlgorithm}
	if by == nil {
		by = r.Issuer
	} else {
		said.Certificate = by.Chain[0]
	}
	if r.Edit != nil {
		r.Edit(&said)
	}
	return ocsp.CreateResponse(r.Issuer.Chain[0], by.Chain[0], said, by.Key)
}

// requestOf reads a request that was posted, or that is the path (RFC 6960, A.1).
func requestOf(in *http.Request) ([]byte, error) {
	if in.Method == http.MethodGet {
		return base64.StdEncoding.DecodeString(strings.TrimPrefix(in.URL.Path, "/"))
	}
	return io.ReadAll(io.LimitReader(in.Body, maxRequest))
}

// ServeHTTP answers requests.
func (r *Responder) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	r.mu.Lock()
	r.asked++
	r.mu.Unlock()
	out := r.Raw
	if out == nil {
		body, err := requestOf(in)
		var req *ocsp.Request
		if err == nil {
			req, err = ocsp.ParseRequest(body)
		}
		if err == nil {
			out, err = r.Answer(req)
		}
		if err != nil {
			http.Error(w, fmt.Sprintf("answer: %v", err), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(out)
}

// ForAnswers lets a certificate sign answers, and nothing else.
func ForAnswers(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }
