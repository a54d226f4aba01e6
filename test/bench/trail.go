package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/aws/trail"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
)

const (
	trailRecords = 1_000 // of one file, as CloudTrail writes them in a busy account
	trailFiles   = 20
)

// trailCalls are what tasks of an ordinary account call.
var trailCalls = [...][2]string{
	{"s3", "GetObject"}, {"ecs", "DescribeTasks"}, {"sts", "AssumeRole"}, {"logs", "PutLogEvents"}, {"secretsmanager", "GetSecretValue"},
	{"ecs", "RegisterTaskDefinition"}, {"ecr", "BatchGetImage"}, {"kms", "Decrypt"},
}

// trailFile is a file as it lies in a trail's bucket, of the n-th quarter of an hour.
func trailFile(n int, from time.Time) ([]byte, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	records := make([]string, trailRecords)
	for i := range records {
		call, task := trailCalls[i%len(trailCalls)], fmt.Sprintf("%032x", i%50)
		records[i] = fmt.Sprintf(`{"eventVersion":"1.09","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:%[1]s","arn":"arn:aws:sts::123456789012:assumed-role/shop-task/%[1]s",`+
			`"accountId":"123456789012","accessKeyId":"ASIAEXAMPLE%[2]d","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROAEXAMPLE","arn":"arn:aws:iam::123456789012:role/shop-task",`+
			`"accountId":"123456789012","userName":"shop-task"},"attributes":{"creationDate":%[3]q,"mfaAuthenticated":"false"}}},"eventTime":%[3]q,"eventSource":"%[4]s.amazonaws.com",`+
			`"eventName":%[5]q,"awsRegion":"eu-west-1","sourceIPAddress":"203.0.113.5","userAgent":"aws-sdk-go-v2/1.30 os/linux lang/go#1.22 md/GOARCH#arm64 api/s3#1.50",`+
			`"requestParameters":{"cluster":"shop","family":"shop-web","networkMode":"awsvpc","containerDefinitions":[{"name":"web","image":"shop/web:1.2","memory":512,"essential":true}]},`+
			`"responseElements":null,"requestID":"r-%[2]d-%[6]d","eventID":"e-%[2]d-%[6]d","readOnly":false,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"123456789012"}`,
			task, i, from.Add(time.Duration(n)*15*time.Minute).UTC().Format(time.RFC3339), call[0], call[1], n)
	}
	if _, err := z.Write([]byte(`{"Records":[` + strings.Join(records, ",") + `]}`)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// benchTrail measures what a record of CloudTrail costs on one core: read out of its
// file, and held against all rules.
func benchTrail() ([]row, error) {
	e, err := detect.New(nil)
	if err != nil {
		return nil, err
	}
	var files [][]byte
	for n := range trailFiles {
		f, err := trailFile(n, time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	seen, threats := 0, 0
	began := time.Now()
	for _, f := range files {
		if _, err := trail.Read(bytes.NewReader(f), func(call *event.Event) error {
			seen++
			threats += len(e.Observe(call))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	if seen != trailFiles*trailRecords || threats > seen/1000 {
		return nil, fmt.Errorf("%d of %d records were read, with %d threats: it measures what is told", seen, trailFiles*trailRecords, threats)
	}
	return []row{
		{"a record of CloudTrail read and held against all rules", fmt.Sprintf("%.1f µs", float64(took)/float64(seen)/float64(time.Microsecond)), ""},
		{"  records a second on a core", fmt.Sprintf("%.0f", float64(seen)/took.Seconds()), ""},
	}, nil
}
