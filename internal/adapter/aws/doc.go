// Package aws is the door to Amazon Web Services: the only place that imports
// their SDK.
//
// It gives the credentials for the registries of Amazon ECR, lists what they hold,
// and receives what they tell through queues of Amazon SQS. It signs with keys in AWS
// KMS, asks AWS Signer what it revoked, and carries notifications to SNS, EventBridge,
// CloudWatch and Security Hub. It finds its own
// credentials in the SDK's usual order (environment, shared files, web identity, the
// task's role, the instance's profile), and honours AWS_ENDPOINT_URL. It keeps
// nothing on disk and logs no secret.
//
// It is not for pulling images: package oci does that, and is given ECR's
// Credentials.
package aws
