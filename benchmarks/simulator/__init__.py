"""The scheduler, the growth of trees and the router, in virtual time."""
