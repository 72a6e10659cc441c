"""A stack's plan under the eyes of the policy pack, checkov, kube-score and kubeconform."""
