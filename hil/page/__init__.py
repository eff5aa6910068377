"""The live page of the bench: a picture of the pod, fed over MQTT, with faults to cause. No part of the controller."""
